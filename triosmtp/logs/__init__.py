"""Logs: events of the server as lines.

``event_fields.py`` has the fields of each line, ``json_lines.py`` a shorter way for frequent ones.  ``event_log.py`` is
the log on stderr, ``syslog.py`` the same lines in syslog, ``momentum_log.py`` the logs of Momentum.
``repeat_filter.py`` omits lines that a session repeats.  ``non_blocking_writer.py`` writes without waiting for the
reader.  ``log_set.py`` holds all logs of a configuration.
"""
