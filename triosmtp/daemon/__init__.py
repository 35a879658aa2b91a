"""``triosmtp serve``: from the command to a running server, and to its end.

``run.py`` is the command, ``start.py`` what is done before the event loop, ``config_warnings.py`` warnings about a
valid configuration, ``embedded_default.py`` the configuration that runs without a file.
``startup_signals.py`` handles signals until the loop does, ``systemd_notify.py`` and ``systemd_sockets.py`` speak with
systemd, ``privileges.py`` gives up root's rights, ``reload_access.py`` tells what could not be read again after that.
"""
