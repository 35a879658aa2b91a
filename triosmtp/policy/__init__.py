"""Policies in Python: they decide about sessions and messages.

``interface.py`` is the base class of policies, ``policy_session.py`` and ``auth_attempt.py`` are what they see.
``chain.py`` asks several policies and makes one decision; ``deferral.py`` is one that depends on the result of the
phase.  ``recipient_choice.py`` is the target that they choose for one recipient.  ``policy_loader.py`` imports the
policies of the configuration.

``password_check.py`` is for policies that check passwords themselves.

Decisions of other programs are in :mod:`triosmtp.policy_service`.
"""

from typing import TYPE_CHECKING

from triosmtp.lazy_import import lazy_names

if TYPE_CHECKING:
    from triosmtp.policy.auth_attempt import AuthAttempt, Authenticated
    from triosmtp.policy.chain import CONTINUE, Chain, ChainDecision
    from triosmtp.policy.deferral import Deferral
    from triosmtp.policy.interface import DISCARD, DONE, PHASES, Done, Phase, Policy, PolicyError
    from triosmtp.policy.password_check import CheckedPassword, PasswordAnswer, PasswordCheck, PasswordQuestion
    from triosmtp.policy.policy_loader import load_policy
    from triosmtp.policy.policy_session import Session
    from triosmtp.policy.recipient_choice import choice_for_recipient

__all__ = [
    "CONTINUE", "DISCARD", "DONE", "PHASES", "AuthAttempt", "Authenticated", "Chain", "ChainDecision",
    "CheckedPassword", "Deferral", "Done", "PasswordAnswer", "PasswordCheck", "PasswordQuestion", "Phase", "Policy",
    "PolicyError", "Session", "choice_for_recipient", "load_policy",
]  # fmt: skip

_MODULES = {
    "triosmtp.policy.auth_attempt": ("AuthAttempt", "Authenticated"),
    "triosmtp.policy.chain": ("CONTINUE", "Chain", "ChainDecision"),
    "triosmtp.policy.deferral": ("Deferral",),
    "triosmtp.policy.interface": ("DISCARD", "DONE", "PHASES", "Done", "Phase", "Policy", "PolicyError"),
    "triosmtp.policy.password_check": ("CheckedPassword", "PasswordAnswer", "PasswordCheck", "PasswordQuestion"),
    "triosmtp.policy.policy_loader": ("load_policy",),
    "triosmtp.policy.policy_session": ("Session",),
    "triosmtp.policy.recipient_choice": ("choice_for_recipient",),
}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = lazy_names(__name__, _MODULES)
