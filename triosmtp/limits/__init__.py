"""Limits on the resources that one peer, and all peers together, can use.

``peer_count.py`` counts by peer, ``shared_counts.py`` over several nodes, in a Redis (``redis_store.py``).
``fair_queue.py`` is a bounded queue that peers share fairly.
``handshake_limiter.py`` and ``large_flight_limiter.py`` limit TLS handshakes.  ``spool_space.py`` limits the octets in
the spool, ``timeouts.py`` the time of a session, and ``fd_limit.py`` the connections by the file descriptors.
``target_slots.py`` limits the connections to a target, which ``slot_allocator.py`` divides between workers.
``limit_reached.py`` names the limit that refused something.
"""
