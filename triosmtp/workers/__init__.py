"""Worker processes: a supervisor accepts, and workers serve the sessions.

``supervisor.py`` and ``worker.py`` are the two kinds of processes.  ``process.py`` starts a worker, ``dispatch.py``
chooses one for a connection, ``channel.py`` carries values between them, ``handoff.py`` says which.  ``remote_hub.py``
is the policy service's hub as a worker sees it, ``pooled_sessions.py`` the sessions of all workers.
"""
