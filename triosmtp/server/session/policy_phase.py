"""A policy phase: ask the policies, apply the restrictions, report the outcome.

All phases of a session go through :func:`settle`, with two exceptions.  A phase without policies needs no coroutine
(see ``handlers.py``).  The two phases of a whole message have one outcome (see ``transaction.py``).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from triosmtp.errors import Reject
from triosmtp.event import PolicyFailed
from triosmtp.policy import CONTINUE, AuthAttempt, Chain, ChainDecision, Phase, PolicyError, Session
from triosmtp.policy_service.question import Excerpt, Outcome
from triosmtp.policy_service.websocket_policy import make_question
from triosmtp.server.service import Service
from triosmtp.server.session.refusal import Refusal, refusal_of, text_of_reply

__all__ = ["ask_hook", "ask_policies", "deferred", "emit_outcome", "settle"]

_log = logging.getLogger("triosmtp.server")


async def settle(
    service: Service,
    session: Session,
    chain: Chain,
    phase: Phase,
    *arguments: object,
    restrict: Callable[[ChainDecision], Awaitable[None] | None] | None = None,
) -> tuple[ChainDecision, Refusal | None]:
    """Ask the policies of ``chain`` at ``phase``, then ``restrict``; report the outcome and return it.

    ``arguments`` are what the policies get after the session.  ``restrict`` applies the built-in restrictions to the
    policies' decision and raises the refusal, if any.  If it has to wait, it returns an awaitable.
    """
    decision, refusal = CONTINUE, None
    try:
        if phase in chain.phases:
            decision = await chain.ask(phase, session, *arguments)
            if decision is not CONTINUE:
                _apply(decision, service, session, phase)
        if restrict is not None:
            waiting = restrict(decision)
            if waiting is not None:
                await waiting
    except Refusal as error:
        refusal = error.without_traceback()
    if decision is not CONTINUE and decision.deferral is not None:
        refusal = deferred(decision, refusal)
    if service.hub.outcome_phases:
        emit_outcome(service, session, phase, refusal, *arguments)
    return decision, refusal


async def ask_policies(
    service: Service, session: Session, chain: Chain, phase: Phase, *arguments: object
) -> ChainDecision:
    """Ask the policies of ``chain`` at ``phase``.

    :raises Refusal: if one of them refuses or fails.
    """
    decision = await chain.ask(phase, session, *arguments)
    if decision is not CONTINUE:
        _apply(decision, service, session, phase)
    return decision


def _apply(decision: ChainDecision, service: Service, session: Session, phase: Phase) -> None:
    """Report a failure of a policy, and raise the refusal, if there is one."""
    if decision.error:
        failure = PolicyFailed(session=session.info, phase=phase, policy=decision.source, error=decision.error)
        service.emit(failure)
    if decision.refusal is not None:
        refusal = refusal_of(decision.refusal, decision.source)
        raise deferred(decision, refusal) or refusal


async def ask_hook(
    service: Service,
    session: Session,
    hook: Callable[[Session, AuthAttempt, str], Awaitable[None]],
    attempt: AuthAttempt,
    status: str,
) -> Refusal | None:
    """Pass the outcome of an authentication attempt to a policy; return its refusal, if any."""
    try:
        await hook(session, attempt, status)
    except Reject as reject:
        return refusal_of(reject, reject.decided_by)
    except PolicyError as error:
        service.emit(PolicyFailed(session=session.info, phase="auth", policy="lua", error=str(error)))
        return refusal_of(error.refusal, "lua")
    return None


def deferred(decision: ChainDecision, refusal: Refusal | None) -> Refusal | None:
    """Return the result of a phase, by what its policies made depend on it (DEFER_IF_PERMIT, DEFER_IF_REJECT)."""
    if decision.deferral is None:
        return refusal
    reject = decision.deferral.refusal(None if refusal is None else refusal.reply.code)
    return refusal if reject is None else refusal_of(reject, reject.decided_by)


def emit_outcome(
    service: Service,
    session: Session,
    phase: Phase,
    refusal: Refusal | None,
    *arguments: Any,
    discarded_by: str = "",
    excerpt: Excerpt | None = None,
) -> None:
    """Report the outcome of a phase to the hub, if a policy client wants it.

    ``discarded_by`` names the policy that discarded the accepted message; ``excerpt`` is for recordings.  The outcome
    is settled by then, so a failure here is logged and changes no reply.
    """
    if phase not in service.hub.outcome_phases:
        return
    try:
        service.hub.report_outcome(make_question(phase, session, *arguments), _outcome(refusal, discarded_by, excerpt))
    except Exception:  # noqa: BLE001 - whatever it is, it is not the session's fault
        _log.exception("session %s: the outcome of %s was not sent to policy clients", session.id, phase)


def _outcome(refusal: Refusal | None, discarded_by: str, excerpt: Excerpt | None) -> Outcome:
    if refusal is None:
        return Outcome(decision="accepted", decided_by=discarded_by, excerpt=excerpt)
    reply = refusal.reply
    return Outcome(
        decision="refused",
        code=reply.code,
        enhanced=reply.enhanced,
        text=text_of_reply(reply),
        decided_by=refusal.decided_by,
        excerpt=excerpt,
    )
