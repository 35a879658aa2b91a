"""The handlers of the events of the sans-io connection, one function for each event.

A handler is a function that takes the state of the session and an event, and returns the reply as it is sent.  If it
has to wait for a policy, a disk or a delivery, it returns an awaitable instead.  Policy is asked first, then the
built-in restrictions of the phase.  There is no SMTP grammar here (that is ``smtp/``) and no stream (``driver.py``).
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from triosmtp.event import TLSFailed
from triosmtp.message import Recipient
from triosmtp.policy import CONTINUE, ChainDecision, Phase
from triosmtp.server.session import auth, xclient
from triosmtp.server.session.policy_phase import settle
from triosmtp.server.session.refusal import Refusal, emit_refused, refusal_of, refuse, send_refusal
from triosmtp.server.session.restrictions import WaitingCheck, check_space, must_wait_for_space
from triosmtp.server.session.state import SessionEnd, SessionState
from triosmtp.server.session.transaction import Transaction
from triosmtp.smtp import (
    Address,
    Auth,
    AuthResponse,
    BadCommand,
    Bdat,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    ConnectionEnded,
    Data,
    Hello,
    Help,
    MailFrom,
    Noop,
    ProtocolFailure,
    Quit,
    RcptTo,
    Reply,
    Reset,
    StartTLS,
    SwitchToTLS,
    Verify,
    XClient,
    XDumpContext,
    XRemoteIP,
    XSetContext,
)  # fmt: skip

__all__ = ["HANDLERS", "Answer", "connect", "end_of_dialogue", "establish_tls", "greet", "refuse_from_now_on"]

_OWN_REPLY: Final = frozenset({"mailfrom", "rcptto"})
"""The phases whose positive reply a policy may word."""
_WEIGHT: Final = 100  # of a recipient that was refused for good, beside one that was refused for now
_UNKNOWN: Final = frozenset({500, 502})  # the replies to commands that are not known
_ENHANCED: Final = re.compile(r"(?:(4\.\d+\.\d+)(?: |$))?(.*)")

E = TypeVar("E")

Answer: TypeAlias = bytes | Awaitable[bytes]
"""A reply, ``b""`` if none is due yet; or what must be awaited for it."""


# The steps without a command: the beginning of a connection, and a handshake


async def connect(state: SessionState) -> Refusal | None:
    """Fill the connection context and ask policy about the new connection; return its refusal, if any."""
    profile, variables = state.profile, state.session.variables
    for health in profile.health:
        if health.is_down:
            reply = Reply(421, "Mail cannot be accepted for now, try again later", "4.3.2")
            return Refusal(reply, "delivery", f"{health.name} is not available: {health.reason}")
    settings = profile.settings
    if settings.context:
        variables.record(settings.context)
    if settings.pathway:
        variables["pathway"] = settings.pathway
    state.grant_relay()
    if profile.sasl.stores:
        await auth.update_offer(state)
    refusal = None
    if state.profile.chain.policies:
        state.session.is_leaving = state.leaving_check()
    if state.restrictions["connect"].waits or "connect" in state.service.hub.outcome_phases:
        refusal = await _settle(state, "connect")
        if state.session.capabilities is not None:
            state.apply_capabilities()
    state.remember_beginning()
    return refusal


async def establish_tls(state: SessionState) -> Refusal | None:
    """Fill the connection context with what a handshake established, and ask policy about it."""
    tls = state.session.tls
    assert tls is not None, "the handshake is done"
    state.session.variables.record(tls.variables())
    state.grant_relay()
    if state.profile.sasl.stores:
        await auth.update_offer(state)
    if state.restrictions["starttls"].waits or "starttls" in state.service.hub.outcome_phases:
        return await _settle(state, "starttls", tls)
    return None


async def _settle(state: SessionState, phase: Phase, *arguments: object) -> Refusal | None:
    decision, refusal = await settle(state.service, state.session, state.profile.chain, phase, *arguments)
    if decision.discard:
        state.discard(decision.source, phase)
    return refusal


def greet(state: SessionState, refusal: Refusal | None, phase: str) -> bytes:
    """Return the banner, or the refusal in its place."""
    if refusal is not None:
        return refuse(state, phase, refusal)
    own, state.session.accept_reply = state.session.accept_reply, None
    if own is not None or state.profile.settings.static_banner:
        return state.connection.send(own or state.profile.banner)
    return state.connection.accept()


def refuse_from_now_on(state: SessionState, refusal: Refusal) -> None:
    """Answer every later command but QUIT with ``refusal``: a handshake has no reply of its own."""
    state.connection.refuse_commands(refusal.reply)
    state.refusal_closes = refusal.closes
    emit_refused(state.service, state.session, "starttls", refusal)


def end_of_dialogue(state: SessionState, kind: type | None) -> SessionEnd:
    """Return why the dialogue is over; ``kind`` is the type of the last event that was handled."""
    if state.was_outdated:
        return SessionEnd.RECONFIGURED
    return SessionEnd.REFUSED if kind is None else _ENDS.get(kind, SessionEnd.REFUSED)


_ENDS: Final[dict[type, SessionEnd]] = {
    Quit: SessionEnd.QUIT,
    ProtocolFailure: SessionEnd.PROTOCOL_ERROR,
    ConnectionEnded: SessionEnd.PEER_CLOSED,  # between two commands too: nobody said QUIT
}


# Deciding


def _decide(
    state: SessionState,
    phase: Phase,
    event: E,
    decided: Callable[[SessionState, E, ChainDecision, Refusal | None], bytes],
) -> Answer:
    """Decide a phase, then return what ``decided`` makes of the outcome.

    If nothing has to be waited for and nobody wants the outcome, there is no coroutine.
    """
    restrictions = state.restrictions[phase]
    if restrictions.waits or state.service.hub.outcome_phases:
        return _decide_later(state, phase, event, decided)
    try:
        for check in restrictions.checks:
            check(state, event, False)
    except Refusal as refusal:
        return decided(state, event, CONTINUE, refusal)
    return decided(state, event, CONTINUE, None)


def _policy_arguments(event: object) -> tuple[object, ...]:
    """Return what policies get after the session."""
    match event:
        case MailFrom():
            return event.sender, event.parameters
        case RcptTo():
            return event.recipient, event.parameters
        case Hello():
            return (event.domain,)
        case _:
            return ()


async def _decide_later(
    state: SessionState,
    phase: Phase,
    event: E,
    decided: Callable[[SessionState, E, ChainDecision, Refusal | None], bytes],
) -> bytes:
    restrictions = state.restrictions[phase]
    waiting_checks = restrictions.waiting_checks
    if isinstance(event, MailFrom) and must_wait_for_space(event):
        waiting_checks = (check_space, *waiting_checks)

    def restrict(decision: ChainDecision) -> Awaitable[None] | None:
        if decision.discard and phase != "mailfrom":  # there it is about the transaction that begins
            state.discard(decision.source, phase)
        for check in restrictions.checks:
            check(state, event, decision.done)
        return _apply_waiting(waiting_checks, state, event) if waiting_checks else None

    arguments = _policy_arguments(event)
    chain = state.profile.chain
    decision, refusal = await settle(state.service, state.session, chain, phase, *arguments, restrict=restrict)
    if phase == "ehlo" and state.session.capabilities is not None:
        state.apply_capabilities()
    reply = decided(state, event, decision, refusal)
    wanted, state.session.accept_reply = state.session.accept_reply, None
    if wanted is None:
        return reply
    return reply if refusal is not None or phase not in _OWN_REPLY else state.connection.rendered(wanted)


async def _apply_waiting(checks: Iterable[WaitingCheck], state: SessionState, event: object) -> None:
    for check in checks:
        await check(state, event)


def _refuse_outdated(state: SessionState, phase: str, sender: Address | None = None) -> bytes:
    """End a session that began before a reload, as no message is under way: policy is not asked."""
    match = _ENHANCED.fullmatch(state.profile.settings.reconfig_message)
    assert match is not None, "every text matches"
    reply = Reply(421, match[2], match[1] or "4.3.2")
    state.was_outdated = True
    return refuse(state, phase, Refusal(reply, "reload", "the configuration was reloaded"), sender)


# The handlers


def on_hello(state: SessionState, event: Hello) -> Answer:
    """Handle EHLO and HELO."""
    variables = state.session.variables
    before = variables.get("ehlo_string"), variables.get("ehlo_domain")
    variables.record({"ehlo_string": event.line, "ehlo_domain": event.domain})
    return _decide(state, "ehlo", event, partial(_hello_decided, before))


def _hello_decided(
    before: tuple[str | None, str | None],
    state: SessionState,
    event: Hello,
    _decision: ChainDecision,
    refusal: Refusal | None,
) -> bytes:
    if refusal is None:
        if state.transaction is not None:
            state.end_transaction()
        state.hello = event
        return state.connection.accept()
    # A refused one changes nothing (RFC 5321, section 4.1.4): the one before it stands, if there was one.
    state.session.variables.apply(dict(zip(("ehlo_string", "ehlo_domain"), before, strict=True)))
    return refuse(state, "ehlo", refusal)


async def on_auth(state: SessionState, event: Auth | AuthResponse) -> bytes:
    """Handle AUTH and the client's answer to a challenge."""
    try:
        reply = await auth.answer(state, event)
    except Refusal as refusal:
        return refuse(state, "auth", refusal.without_traceback())
    return state.connection.send(reply)


def on_mail(state: SessionState, event: MailFrom) -> Answer:
    """Handle MAIL."""
    session, sender = state.session, event.sender
    state.begin_message()
    if state.service.generation is not state.generation:
        return _refuse_outdated(state, "mailfrom", sender)
    session.in_transaction = True
    session.message_variables.record(
        {"mailfrom_string": sender.text, "mailfrom_localpart": sender.local_part, "mailfrom_domain": sender.domain}
    )
    if event.parameters and must_wait_for_space(event):
        return _decide_later(state, "mailfrom", event, _mail_decided)
    return _decide(state, "mailfrom", event, _mail_decided)


def _mail_decided(state: SessionState, event: MailFrom, decision: ChainDecision, refusal: Refusal | None) -> bytes:
    session = state.session
    if refusal is not None:
        session.in_transaction = False
        session.message_headers.clear()
        return refuse(state, "mailfrom", refusal, event.sender)
    session.transactions += 1
    session.variables.record({"message_rcpt_count": "0"})
    discarded_by = decision.source if decision.discard else state.discarded_by
    state.transaction = transaction = Transaction(
        state.service, session, state.profile, session.transactions, event, state.hello, discarded_by
    )
    session.envelope = transaction.envelope
    return state.connection.accept()


def on_rcpt(state: SessionState, event: RcptTo) -> Answer:
    """Handle RCPT."""
    recipient = event.recipient
    state.session.message_variables.record(
        {
            "rcptto_string": recipient.text,
            "rcptto_localpart": recipient.local_part,
            "rcptto_domain": recipient.domain,
        }
    )
    return _decide(state, "rcptto", event, _rcpt_decided)


def _rcpt_decided(state: SessionState, event: RcptTo, _decision: ChainDecision, refusal: Refusal | None) -> bytes:
    transaction = state.transaction
    assert transaction is not None, "MAIL was accepted"
    envelope = transaction.envelope
    if refusal is not None:
        return refuse(state, "rcptto", _counted(state, refusal), envelope.sender, (event.recipient,))
    state.recipients += 1
    envelope.recipients.append(Recipient(event.recipient, event.parameters))
    state.session.variables.record(
        {"connection_rcpt_count": str(state.recipients), "message_rcpt_count": str(len(envelope.recipients))}
    )
    return state.connection.accept()


def _counted(state: SessionState, refusal: Refusal) -> Refusal:
    """Count a refused recipient; end the session of a client that guesses for too long."""
    state.refused_recipients += _WEIGHT if refusal.reply.code >= 500 else 1
    limit = state.profile.settings.max_refused_recipients * _WEIGHT
    if not limit or state.refused_recipients <= limit or refusal.reply.code == 421:
        return refusal
    return Refusal(Reply(421, "Too many refused recipients", "4.7.0"), "limit", "Max_Refused_Recipients")


def on_data(state: SessionState, event: Data) -> Answer:
    """Handle DATA."""
    assert state.transaction is not None, "MAIL was accepted"
    state.transaction.begin_body()
    if state.restrictions["data"].waits or state.service.hub.outcome_phases:
        return _decide_later(state, "data", event, _data_decided)
    _count_message(state)
    return state.connection.accept()


def _data_decided(state: SessionState, _event: Data, _decision: ChainDecision, refusal: Refusal | None) -> bytes:
    if refusal is not None:
        return refuse(state, "data", refusal)
    _count_message(state)
    return state.connection.accept()


def _count_message(state: SessionState) -> None:
    state.messages += 1
    state.session.variables.record({"connection_message_count": str(state.messages)})


def on_bdat(state: SessionState, event: Bdat) -> Answer:
    """Handle BDAT: ask policy about the first chunk.  A refusal waits for the octets that are under way already."""
    assert state.transaction is not None, "MAIL was accepted"
    if not event.first:
        return b""
    state.transaction.begin_body()
    return _decide(state, "data", event, _bdat_decided)


def _bdat_decided(state: SessionState, _event: Bdat, _decision: ChainDecision, refusal: Refusal | None) -> bytes:
    transaction = state.transaction
    assert transaction is not None, "MAIL was accepted"
    if refusal is None:
        _count_message(state)
    else:
        transaction.close()
        transaction.refusal = refusal
    return b""


def on_body_part(state: SessionState, event: BodyChunk) -> Answer:
    """Handle a part of the body."""
    assert state.transaction is not None, "MAIL was accepted"
    return _flush(state.transaction) if state.transaction.add(event.data) else b""


async def _flush(transaction: Transaction) -> bytes:
    await transaction.flush()
    return b""


def on_chunk_end(state: SessionState, event: ChunkEnd) -> Answer:
    """Handle the end of a chunk that is not the last one."""
    assert state.transaction is not None, "MAIL was accepted"
    if event.error is None and state.transaction.refusal is None:
        return state.connection.send(Reply(250, f"{event.size} octets received", "2.0.0"))
    return on_body_end(state, BodyEnd(event.size, event.error))


async def on_body_end(state: SessionState, event: BodyEnd) -> bytes:
    """Handle the end of the body, or of what there was of it if it was refused."""
    transaction = state.transaction
    assert transaction is not None, "MAIL was accepted"
    if transaction.refusal is not None:
        reply = refuse(state, "data", transaction.refusal)
        state.end_transaction()
        return reply
    refusal = await transaction.finish(event)
    state.end_transaction()
    if refusal is None or refusal.reply.positive:
        state.refused_recipients = 0
    if refusal is not None:  # or a reply in the words of a policy or a target
        return send_refusal(state, refusal)
    enhanced = "2.0.0 " if state.profile.rules.enhanced_status_codes else ""
    return state.connection.accept(f"250 {enhanced}Ok: queued as {transaction.id}\r\n".encode("ascii"))


async def on_starttls(state: SessionState, _event: StartTLS) -> bytes:
    """Handle STARTTLS."""
    state.admitted_handshake = True
    reached = await state.service.limits.admit_handshake(state.session, state.profile.settings)
    if reached:
        reply = Reply(454, "TLS is not available for the moment", "4.7.0")
        return refuse(state, "starttls", Refusal(reply, "limit", reached.value))
    return state.connection.accept()


def on_bad_command(state: SessionState, event: BadCommand) -> Answer:
    """Handle a command that cannot be accepted."""
    refusal = Refusal(event.reply, "protocol", event.reason)
    if state.refusal_closes:
        refusal.closes = True
    if event.reply.code in _UNKNOWN and state.profile.chain.asks_about_unknown:
        return _refuse_unknown(state, event, refusal)
    return refuse(state, "command", refusal)


async def _refuse_unknown(state: SessionState, event: BadCommand, refusal: Refusal) -> bytes:
    """Refuse a command that is not known, in the words of a milter if it has some."""
    reject = await state.profile.chain.ask_about_unknown(state.session, event.line)
    return refuse(state, "command", refusal if reject is None else refusal_of(reject, reject.decided_by))


def on_protocol_failure(state: SessionState, event: ProtocolFailure) -> bytes:
    """Handle a hard error, which ends the connection."""
    if event.injection:
        state.service.emit(TLSFailed(session=state.session.info, reason="injection", detail=event.reason))
    return refuse(state, "command", Refusal(event.reply, "protocol", event.reason))


def on_end(_state: SessionState, _event: ConnectionEnded) -> bytes:
    """Handle the end of what the peer sends."""
    return b""


def on_reset(state: SessionState, _event: Reset) -> bytes:
    """Handle RSET."""
    state.end_transaction()
    if state.service.generation is not state.generation:
        return _refuse_outdated(state, "command")
    return state.connection.accept()


def on_no_effect(state: SessionState, _event: Noop | Verify | Help | Quit) -> bytes:
    """Handle a command that changes nothing here."""
    return state.connection.accept()


async def on_xclient(state: SessionState, event: XClient | XRemoteIP) -> bytes:
    """Handle XCLIENT and XREMOTEIP: from now on the session is that of another client."""
    await auth.start_over(state)
    xclient.adopt_announced_client(state, event)
    refusal = await connect(state)
    if state.session.auth is not None:
        state.session.variables["can_relay"] = "true"
    if refusal is None and isinstance(event, XRemoteIP):
        return state.connection.accept()
    return greet(state, refusal, "connect")


def on_xcontext(state: SessionState, event: XDumpContext | XSetContext) -> bytes:
    """Handle XDUMPCONTEXT and XSETCONTEXT."""
    try:
        reply = xclient.answer_context(state.session, event)
    except Refusal as refusal:
        return refuse(state, "command", refusal)
    return state.connection.send(reply)


def on_switch(_state: SessionState, _event: SwitchToTLS) -> None:
    """Leave the handshake to the driver."""


HANDLERS: Final[dict[type, Callable[[SessionState, Any], Answer | None]]] = {
    Hello: on_hello,
    Auth: on_auth,
    AuthResponse: on_auth,
    MailFrom: on_mail,
    RcptTo: on_rcpt,
    Data: on_data,
    Bdat: on_bdat,
    ChunkEnd: on_chunk_end,
    BodyChunk: on_body_part,
    BodyEnd: on_body_end,
    StartTLS: on_starttls,
    Reset: on_reset,
    Noop: on_no_effect,
    Verify: on_no_effect,
    Help: on_no_effect,
    Quit: on_no_effect,
    XClient: on_xclient,
    XRemoteIP: on_xclient,
    XDumpContext: on_xcontext,
    XSetContext: on_xcontext,
    BadCommand: on_bad_command,
    ProtocolFailure: on_protocol_failure,
    ConnectionEnded: on_end,
    SwitchToTLS: on_switch,
}
"""The handler of each event.  None is what the driver must do: the TLS handshake."""
