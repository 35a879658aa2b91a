"""What ``triosmtp serve`` adds to the server: its embedded default, logs, the checks before it starts, signals.

``run.py`` the command, ``embedded.py`` the configuration it runs without one, ``check.py`` what can be told before
serving, ``log.py`` events as log lines.
"""
