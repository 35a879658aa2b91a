"""The server: the only room that joins SMTP, TLS, policy and delivery.

``serve.py`` from a configuration to sessions, ``listener.py`` sockets and accepting, ``transport.py`` the stream under
TLS, ``session.py`` one session's life, ``conversation.py`` its commands, ``transaction.py`` its messages,
``patience.py`` its idle limit, ``gate.py`` the limits of handshakes, ``decision.py`` refusals, ``relay.py`` who may
relay, ``profile.py`` options as running parts, ``opening.py`` all that a configuration needs, ``service.py`` what all
share, ``pool.py`` those who serve in other processes.
"""
