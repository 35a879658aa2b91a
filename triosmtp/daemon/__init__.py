"""``triosmtp serve``: from the command to a running server, and to its end.

``run.py`` is the command, ``start.py`` what is done before the event loop, ``check.py`` what can be told of a
configuration before it is served, ``embedded_default.py`` the configuration that runs without a file.
``startup_signals.py`` handles signals until the loop does, ``systemd_notify.py`` and ``systemd_sockets.py`` speak with
systemd, ``privileges.py`` gives up root's rights, ``reload_access.py`` tells what could not be read again after that.
"""
