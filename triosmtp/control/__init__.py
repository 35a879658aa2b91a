"""The control socket: an operator's console asks and commands the running server.

``control_path.py`` says where the socket is, ``control_socket.py`` serves it, ``console_commands.py`` carries out the
commands, ``console_protocol.py`` is what passes between, ``console_client.py`` is the operator's side.
``config_query.py`` and ``tls_report.py`` answer questions about a configuration as text, here and on the command line.
"""
