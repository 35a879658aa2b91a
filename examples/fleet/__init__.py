"""A fleet on one machine: three nodes, a cluster of NATS, HAProxy, a policy client, two consumers and a Maildir.

`python -m examples.fleet` runs it.  `docs/scaling.md` explains it.  ``site.py`` has the addresses and configurations.
``service.py`` runs a process, and ``launcher.py`` all of them.  ``jetstream.py`` makes the streams.  ``policy.py`` is
the policy client.  ``audit.py`` sends messages, and looks for them at the far end.
"""
