"""Worker processes: a supervisor accepts connections, and workers serve the sessions.

``supervisor.py`` and ``worker.py`` are the two kinds of processes; a worker begins in ``worker_main.py``.
``worker_process.py`` is a worker as its supervisor sees it.  ``dispatcher.py`` chooses the worker for a connection, and
``handoff.py`` passes it.  ``channel.py`` carries the messages of ``worker_messages.py`` between them, frequent ones as
``compact_message.py`` makes them.  In a worker, ``remote_hub.py`` is the policy hub, and ``worker_limits.py`` has the
limits.  In the supervisor, ``pooled_sessions.py`` shows the sessions of all workers, and ``request_handlers.py``
answers the requests of workers.  ``slot_lending.py`` has both ends of the connections to targets that workers borrow.
"""
