"""The commands of `triosmtp` that run in a process of their own; :mod:`triosmtp.cli` parses their arguments.

``check_command.py`` checks a configuration, and ``tls_command.py`` its TLS contexts.  ``probe.py`` checks a server from
outside.  ``passwd.py`` writes password files.  ``policy_command.py`` and ``policy_replay.py`` are policy clients.
``policy_lua.py`` runs a script against a recording.
``watch_nats.py`` shows the events of all nodes.  ``consume.py`` delivers the mail of a stream.
``top.py`` and ``top_screen.py`` show the overview in a terminal.  ``examples.py`` copies the examples.
"""
