"""Sockets: from the address of a Listen to a connected stream.

``listener.py`` makes listening sockets and accepts.  ``peer.py`` is the other end of a connection.
``listening_socket.py`` is a socket with its accept loop and its end.  ``bound_socket.py`` plans the sockets of a
configuration, at the start and at a reload.  ``listen_backlog.py`` closes them without resetting connections.
``transport.py`` is a connection as a Trio stream.  ``peer_credentials.py`` identifies the process at the other end of a
Unix socket.  ``unix_client.py`` connects to Unix sockets.
"""
