"""Sockets: from a Listen's address to a connected stream.

``listener.py`` makes listening sockets and accepts, ``bound_socket.py`` keeps them in step with the configuration,
``listen_backlog.py`` empties the queue at the end, ``transport.py`` is a connection as a Trio stream,
``peer_credentials.py`` tells who is at the other end of a Unix socket.
"""
