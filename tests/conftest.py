"""What holds for every test."""

import os

# Tests read the log of a server as a person does; those of the other form ask for it.
os.environ.setdefault("TRIOSMTP_LOG_FORMAT", "text")
