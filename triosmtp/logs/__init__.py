"""Logs: events of sessions as lines.

``event_log.py`` is the log on stderr, ``syslog.py`` the same lines in syslog, ``momentum_log.py`` Momentum's own logs.
``repeat_filter.py`` leaves out lines that a session repeats, ``non_blocking_writer.py`` writes without waiting for the
reader, ``log_set.py`` holds all logs of a configuration.
"""
