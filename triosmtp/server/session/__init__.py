"""One SMTP session: from an accepted connection to its end."""
