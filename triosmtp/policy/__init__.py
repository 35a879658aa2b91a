"""Policy: who decides about sessions and messages, and how policies are put together.

``session.py`` and ``attempt.py`` what they see, ``interface.py`` what they implement, ``chain.py`` how several are
asked, ``load.py`` how the configuration names them.

Deciding in other processes: ``hub.py`` where sessions and clients meet (its theory stands at the top), ``question.py``
what goes between them, ``remote.py`` the session's side; ``group.py`` who is asked, ``shadow.py`` who is only compared,
``notification.py`` what is told, ``control.py`` what clients may ask; ``link.py`` and ``outbox.py`` one client,
``wire.py`` its messages, ``websocket.py`` how they are carried; ``client.py`` and ``request.py`` the other end.
"""

from triosmtp.policy.attempt import AuthAttempt, Authenticated
from triosmtp.policy.chain import CONTINUE, Chain, Decision
from triosmtp.policy.interface import DISCARD, DONE, PHASES, Done, Phase, Policy
from triosmtp.policy.policy_loader import load_policy
from triosmtp.policy.session import Session

__all__ = [
    "CONTINUE", "DISCARD", "DONE", "PHASES", "AuthAttempt", "Authenticated", "Chain", "Decision", "Done", "Phase",
    "Policy", "Session", "load_policy",
]  # fmt: skip
