"""Asks several policies in order and makes one decision of their answers."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from attrs import frozen

from triosmtp.errors import Reject
from triosmtp.module_loader import is_failure
from triosmtp.policy.deferral import Deferral
from triosmtp.policy.interface import DISCARD, DONE, PHASES, Phase, Policy, PolicyError, UnknownCommandPolicy
from triosmtp.policy.policy_session import Session

__all__ = ["CONTINUE", "Chain", "ChainDecision"]

_log = logging.getLogger("triosmtp.policy")

_LOGGED: Final = 20
"""The number of failures of one session that are logged with their tracebacks."""


@frozen(slots=True)
class ChainDecision:
    """The decision about one phase.

    ``source`` is the :attr:`Policy.source` of the policy that decided; ``""`` if none did.  ``error`` is set if a
    policy failed.
    """

    refusal: Reject | None = None
    done: bool = False
    discard: bool = False
    """Whether the message is to be discarded; then ``done`` is set too."""
    source: str = ""
    error: str = ""
    deferral: Deferral | None = None
    """Conditions under which the client is to try again later; ``done`` and ``refusal`` are without them."""


CONTINUE: Final = ChainDecision()
"""No policy refused, and none ended the phase."""


_WHOLE_MESSAGE: Final[frozenset[Phase]] = frozenset({"data_spool", "data_spool_each_rcpt"})


class Chain:
    """Policies in the order in which they are asked.

    Only methods that a policy overrides are called.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self.policies = tuple(policies)
        self._hooks: dict[Phase, tuple[tuple[str, Callable[..., Awaitable[object]]], ...]] = {
            phase: tuple(
                (policy.source, getattr(policy, f"validate_{phase}"))
                for policy in self.policies
                if getattr(type(policy), f"validate_{phase}") is not getattr(Policy, f"validate_{phase}")
            )
            for phase in PHASES
        }
        self.auth_hooks = tuple(
            policy.auth_decided for policy in self.policies if type(policy).auth_decided is not Policy.auth_decided
        )
        """The methods that take the outcome of AUTH."""
        self.phases: frozenset[Phase] = frozenset(phase for phase, hooks in self._hooks.items() if hooks)
        """The phases at which a policy is asked."""
        self._unknown = tuple(each for each in self.policies if isinstance(each, UnknownCommandPolicy))
        self.asks_about_unknown = bool(self._unknown)
        """Whether a policy is asked about commands that are not known."""
        self.asks_about_messages = not self.phases.isdisjoint(_WHOLE_MESSAGE)
        """Whether a policy is asked about the whole message."""

    async def ask_about_unknown(self, session: Session, line: bytes) -> Reject | None:
        """Ask about a command that is not known; return the reply in place of the usual one, if a policy has one.

        It raises only cancellation.
        """
        for policy in self._unknown:
            try:
                await policy.judge_unknown_command(session, line)
            except BaseException as error:
                if not is_failure(error):
                    raise
                reject = _only_reject(error)
                if reject is None:
                    return _failed(session, "ehlo", policy.source, error).refusal
                reject.__traceback__ = None
                return reject
        return None

    async def ask(self, phase: Phase, session: Session, *arguments: object) -> ChainDecision:
        """Ask the policies of ``phase`` in order, and return the first decision that ends it.

        It raises only cancellation.  An exception of a policy is logged and becomes the refusal 451 4.3.0, or
        421 4.3.0 at ``connect``.
        """
        deferral: Deferral | None = None
        for source, hook in self._hooks[phase]:
            session.decider = ""
            try:
                answer = await hook(session, *arguments)
            except BaseException as error:  # a policy's error must neither reach the peer nor end the session
                if not is_failure(error):
                    raise
                reject = _only_reject(error)
                if reject is not None:
                    reject.__traceback__ = None  # which would keep this frame, and with that itself and the session
                    return ChainDecision(refusal=reject, source=reject.decided_by or source, deferral=deferral)
                return _failed(session, phase, source, error)
            if answer is DONE:
                return ChainDecision(done=True, source=session.decider or source, deferral=deferral)
            if answer is DISCARD:
                return ChainDecision(done=True, discard=True, source=session.decider or source, deferral=deferral)
            if isinstance(answer, Deferral):
                deferral = answer if deferral is None else deferral.joined(answer)
            elif answer is not None:
                mistake = TypeError(
                    f"{source}: validate_{phase} returned {answer!r}; return None, DONE or DISCARD, or raise Reject"
                )
                return _failed(session, phase, source, mistake)
        return CONTINUE if deferral is None else ChainDecision(deferral=deferral)


def _only_reject(error: BaseException) -> Reject | None:
    """Return the refusal in an exception; a policy that opened a nursery raises it within a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, Reject) else None


def _failed(session: Session, phase: Phase, source: str, error: BaseException) -> ChainDecision:
    if isinstance(error, PolicyError):
        return ChainDecision(refusal=error.refusal, source=source, error=str(error))
    session.failures += 1
    if session.failures <= _LOGGED:  # a client can cause a phase as often as it likes
        last = "; later failures in this session are not logged" if session.failures == _LOGGED else ""
        _log.error("session %s: %s failed at %s: %r%s", session.id, source, phase, error, last, exc_info=error)
    code = 421 if phase == "connect" else 451
    refusal = Reject(code, "4.3.0", "Local error in processing", reason=f"{source} failed: {error!r}")
    return ChainDecision(refusal=refusal, source=source, error=repr(error))
