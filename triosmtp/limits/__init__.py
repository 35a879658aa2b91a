"""Limits on what one peer, and all peers together, may use.

``peer_count.py`` counts by peer, ``peer_limiter.py`` is a bounded queue with a fair share for each peer,
``handshake_limiter.py`` and ``flight_limiter.py`` bound TLS handshakes, ``spool_space.py`` bounds the spool,
``timeouts.py`` bounds the time of a session, ``fd_limit.py`` the file descriptors.
"""
