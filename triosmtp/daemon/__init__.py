"""The process of ``triosmtp serve``, from the command to its end.

The modules::

    serve_command.py      the command: start, reload, drain, end
    embedded_default.py   the configuration that is served without a file
    config_warnings.py    warnings about a valid configuration
    target_warnings.py      those about the TLS files of deliveries
    process_startup.py    before the event loop: sockets of systemd, and steps that only root can do
    systemd_sockets.py      socket activation
    privileges.py           dropping root privileges
    reload_access.py        files that cannot be read again after that
    startup_signals.py    signals until the event loop handles them
    systemd_notify.py     notifications to systemd, and its watchdog
"""
