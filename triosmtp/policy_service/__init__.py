"""The policy service: policy clients of other processes decide about sessions, and observe them.

``hub.py`` is where sessions and clients meet.  ``websocket.py`` serves one client, ``link.py`` is that client as the
hub sees it, ``outbox.py`` what waits to be sent to it, ``group.py`` the deciders that share the questions.  ``wire.py``
checks and writes messages, ``messages.py`` has the values behind them, ``notification.py`` what clients are told,
``requests.py`` what they may ask.  ``hub_policy.py`` is the session's side, ``shadow.py`` compares deciders in shadow,
``recording.py`` has messages in recordings.
"""
