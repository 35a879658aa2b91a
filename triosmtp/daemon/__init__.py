"""What ``triosmtp serve`` adds to the server: its embedded default, logs, the checks before it starts, signals.

``run.py`` the command, ``embedded.py`` the configuration it runs without one, ``check.py`` what can be told before
serving, ``log.py`` events as log lines, ``tls_command.py`` and ``probe.py`` a look at TLS, ``question.py`` one at the
configuration, ``version.py`` what runs here.  For the console: ``place.py`` where the socket is, ``control.py`` the
socket, ``command.py`` what is carried out, ``console.py`` the operator's side.  With workers: ``supervisor.py`` and
``worker.py`` the two kinds of processes, ``child.py`` how one starts the other, ``channel.py`` values and
``handover.py`` connections between them, ``distant_hub.py`` and ``fleet_host.py`` what each sees of the other's
sessions and policy clients.
"""
