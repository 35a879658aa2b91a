"""The control socket: an operator's console sends commands to the running server.

Server::

    control_socket.py     binds the sockets, checks the peer, reads requests
    console_commands.py   the table of commands, and what each does
    config_query.py       queries about a configuration, also for ``triosmtp config``

Client::

    console_client.py     ``triosmtp console`` and ``reload``

Both::

    console_protocol.py   request and response, one JSON object a line
    control_path.py       the path of the socket
"""
