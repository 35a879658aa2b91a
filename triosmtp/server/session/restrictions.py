"""The built-in restrictions: what a phase refuses if no policy has refused already.

:func:`restrictions_of` makes the list of checks that the options of a profile ask for.  An option that is not set adds
no check.  Each check raises the refusal.

- At MAIL: space for the announced SIZE, Max_Receptions_Per_Connection, and the rate Inbound_Throttle_Messages.
- At MAIL, TLS: ``TLS_Verify_Mode = "require"``, TLS_Require_Verified, TLS_Require_Verified_From, Require_TLS_From.
- At RCPT: the numbers of recipients, Require_TLS_For, relaying, Known_Recipients, the rate Recipient_Rate_Per_Peer, and
  what the target says about the recipient.
- After the body: :func:`check_headers`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from attrs import frozen

from triosmtp.config import Settings
from triosmtp.limits.spool_space import find_spool_limit
from triosmtp.message import Recipient
from triosmtp.message.spool import KEEP_SIZE
from triosmtp.policy import PHASES, Phase, Session
from triosmtp.recipients.recipient_file import RecipientFileError
from triosmtp.server.admission import expects_many_connections
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service, fair_queue_key
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import MailFrom, RcptTo, Reply

__all__ = [
    "CheckContext", "Restrictions", "WaitingCheck", "check_headers", "check_space", "must_wait_for_space",
    "restrictions_of",
]  # fmt: skip

_PLAINTEXT: Final = Reply(530, "Must issue a STARTTLS command first", "5.7.0")
_RECEIVED: Final = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")


class CurrentTransaction(Protocol):
    """The message under way."""

    async def verify(self, recipient: Recipient) -> None:
        """Ask the target of a recipient about it."""


class CheckContext(Protocol):
    """What the checks look at: the state of a session."""

    service: Service
    session: Session
    profile: Profile
    messages: int
    """Messages that the session has begun."""
    recipients: int
    """Recipients that the session has accepted."""
    granted_relay: bool
    """Whether ``can_relay`` was set for the sender of the current transaction alone."""

    @property
    def transaction(self) -> CurrentTransaction | None:
        """The message under way."""


Check: TypeAlias = Callable[[CheckContext, Any, bool], None]
"""Called with the state, the event, and whether a policy ended the phase."""
WaitingCheck: TypeAlias = Callable[[CheckContext, Any], Awaitable[None]]


@frozen(slots=True)
class Restrictions:
    """The restrictions of one profile at one phase."""

    checks: tuple[Check, ...] = ()
    waiting_checks: tuple[WaitingCheck, ...] = ()
    """They come after ``checks``."""
    waits: bool = False
    """Whether something must be waited for: a policy that is asked, or a check."""


_made: Final[WeakKeyDictionary[Profile, Mapping[Phase, Restrictions]]] = WeakKeyDictionary()


def restrictions_of(profile: Profile) -> Mapping[Phase, Restrictions]:
    """Return the restrictions of each phase; they are made once for each profile."""
    made = _made.get(profile)
    if made is None:
        made = _made[profile] = {phase: _make(profile, phase) for phase in PHASES}
    return made


def _make(profile: Profile, phase: Phase) -> Restrictions:
    checks: list[Check] = []
    waiting: list[WaitingCheck] = []
    if phase == "mailfrom":
        checks, waiting = _at_mail(profile)
    elif phase == "rcptto":
        checks, waiting = _at_rcpt(profile)
    waits = phase in profile.chain.phases or bool(waiting)
    return Restrictions(tuple(checks), tuple(waiting), waits)


def _at_mail(profile: Profile) -> tuple[list[Check], list[WaitingCheck]]:
    settings = profile.settings
    checks: list[Check] = []
    waiting: list[WaitingCheck] = []
    if settings.max_receptions_per_connection:
        checks.append(_check_receptions)
    if settings.tls_verify_mode == "require":
        checks.append(_demand_certificate)
    if profile.relay.senders is not None:
        checks.append(_check_sender)
    if settings.inbound_throttle_messages is not None:
        waiting.append(_check_message_rate)
    return checks, waiting


def _at_rcpt(profile: Profile) -> tuple[list[Check], list[WaitingCheck]]:
    settings = profile.settings
    checks: list[Check] = []
    waiting: list[WaitingCheck] = []
    if settings.max_recipients_per_message:
        checks.append(_check_recipients_of_message)
    if settings.max_recipients_per_connection:
        checks.append(_check_recipients_of_connection)
    if settings.require_tls_for:
        checks.append(_check_tls_for)
    checks.append(_check_relay)
    if profile.recipients is not None:
        waiting.append(_check_exists)
    if settings.recipient_rate_per_peer is not None:
        waiting.append(_check_recipient_rate)
    if profile.direct is None:
        waiting.append(_ask_target)
    return checks, waiting


def must_wait_for_space(mail: MailFrom) -> bool:
    """Return whether :func:`check_space` is due for a message: it announced a large SIZE (RFC 1870)."""
    parameters = mail.parameters
    return bool(parameters) and int(parameters.get("SIZE") or 0) > KEEP_SIZE


async def check_space(state: CheckContext, mail: MailFrom) -> None:
    """Apply Spool_Max_Size and Spool_Min_Free to the announced SIZE (RFC 1870)."""
    session, settings = state.session, state.profile.settings
    shared = not expects_many_connections(session.peer_address, settings)
    size = int(mail.parameters.get("SIZE") or 0)
    reached = await find_spool_limit(state.service.limits.space, fair_queue_key(session), settings, size, shared=shared)
    if reached is not None:
        raise Refusal(Reply(452, "Insufficient system storage", "4.3.1"), "limit", reached.value)


def _check_receptions(state: CheckContext, _mail: MailFrom, _done: bool) -> None:
    """Apply Max_Receptions_Per_Connection."""
    if state.messages >= state.profile.settings.max_receptions_per_connection:
        reply = Reply(421, "Too many messages on this connection", "4.7.0")
        raise Refusal(reply, "limit", "Max_Receptions_Per_Connection")


def _demand_certificate(state: CheckContext, _mail: MailFrom, done: bool) -> None:
    """Apply TLS_Verify_Mode = "require": there must be a certificate that is not revoked.

    Policy judges whether it verified.  A policy that returned DONE waives the option.
    """
    tls = state.session.connection_tls
    if done or tls is None:
        return
    if tls.client_certificate is None:
        reply = Reply(550, "A client certificate is required", "5.7.1")
        raise Refusal(reply, "TLS_Verify_Mode", "no certificate presented")
    if tls.revoked:
        reply = Reply(550, "The client certificate was revoked", "5.7.1")
        raise Refusal(reply, "TLS_Verify_Mode", "certificate revoked")


def _check_sender(state: CheckContext, mail: MailFrom, _done: bool) -> None:
    """Apply TLS_Require_Verified, TLS_Require_Verified_From and Require_TLS_From, regardless of policy and AUTH."""
    rules, tls, sender = state.profile.relay.senders, state.session.tls, mail.sender
    assert rules is not None, "the check was not asked for"
    option, verified = rules.demand(sender)
    if not option:
        return
    if tls is None:
        raise Refusal(_PLAINTEXT, option, f"{sender.domain or 'mail'} is accepted over TLS alone")
    if verified and not rules.accepts(tls):
        reason = tls.verify_error or "it did not verify"
        reply = Reply(550, f"A client certificate that verifies is required: {reason}", "5.7.1")
        raise Refusal(reply, option, reason)


async def _check_message_rate(state: CheckContext, _mail: MailFrom) -> None:
    """Apply Inbound_Throttle_Messages."""
    await _check_rate(state, "Inbound_Throttle_Messages", state.profile.settings.inbound_throttle_messages)


async def _check_recipient_rate(state: CheckContext, _rcpt: RcptTo) -> None:
    """Apply Recipient_Rate_Per_Peer."""
    await _check_rate(state, "Recipient_Rate_Per_Peer", state.profile.settings.recipient_rate_per_peer)


async def _check_rate(state: CheckContext, option: str, limit: tuple[int, float] | None) -> None:
    assert limit is not None, "the check was not asked for"
    if not await state.service.limits.count_peer(option, state.session.peer_address, limit):
        raise Refusal(Reply(450, "Too much mail for now, try again later", "4.7.1"), "limit", option)


def _check_recipients_of_message(state: CheckContext, _rcpt: RcptTo, _done: bool) -> None:
    """Apply Max_Recipients_Per_Message."""
    envelope = state.session.envelope
    assert envelope is not None, "MAIL was accepted"
    if len(envelope.recipients) >= state.profile.settings.max_recipients_per_message:
        # The sender comes back with the rest (RFC 5321, section 4.5.3.1.10).
        raise Refusal(Reply(452, "Too many recipients", "4.5.3"), "limit", "Max_Recipients_Per_Message")


def _check_recipients_of_connection(state: CheckContext, _rcpt: RcptTo, _done: bool) -> None:
    """Apply Max_Recipients_Per_Connection."""
    if state.recipients >= state.profile.settings.max_recipients_per_connection:
        reply = Reply(421, "Too many recipients on this connection", "4.7.0")
        raise Refusal(reply, "limit", "Max_Recipients_Per_Connection")


def _check_tls_for(state: CheckContext, rcpt: RcptTo, _done: bool) -> None:
    """Apply Require_TLS_For."""
    if state.session.tls is None and state.profile.relay.demands_tls(rcpt.recipient):
        raise Refusal(_PLAINTEXT, "Require_TLS_For", f"{rcpt.recipient.domain} accepts mail over TLS alone")


def _check_relay(state: CheckContext, rcpt: RcptTo, _done: bool) -> None:
    """Refuse a recipient in a foreign domain, or with a route, unless the peer may relay."""
    relay, session, recipient = state.profile.relay, state.session, rcpt.recipient
    local = relay.is_local(recipient)
    if local and not relay.is_barred_route(recipient, rcpt.path):
        return
    # The rules are asked again, not only the variable: a policy that removed it took away no right.
    if (
        session.variables.get("can_relay") == "true"
        or relay.trusts_host(session.peer_address)
        or relay.trusts_certificate(session.tls)
        or session.auth is not None
    ):
        return
    assert session.envelope is not None, "MAIL was accepted"
    if relay.trusts_sender(session.envelope.sender):
        if not local:
            # It holds for this sender alone: the variable goes when the transaction ends.
            session.variables["can_relay"] = "true"
            state.granted_relay = True
        return
    if local:
        reply = Reply(550, "Recipient addresses with a route are not accepted", "5.7.1")
        raise Refusal(reply, "relay", f"{rcpt.path} names a route, the peer may not relay")
    reason = f"{recipient} is not ours, the peer may not relay"
    raise Refusal(Reply(550, "relaying denied", "5.7.1"), "relay", reason)


async def _check_exists(state: CheckContext, rcpt: RcptTo) -> None:
    """Apply Known_Recipients: a local recipient must exist, regardless of policy and peer."""
    known, recipient = state.profile.recipients, rcpt.recipient
    assert known is not None, "the check was not asked for"
    if not state.profile.relay.is_local(recipient):
        return
    try:
        exists = await known.contains(recipient)
    except RecipientFileError as error:
        reply = Reply(451, "The recipient cannot be looked up, try again later", "4.3.0")
        raise Refusal(reply, "Known_Recipients", str(error)) from None
    if not exists:
        reply = Reply(550, "The recipient is not known here", "5.1.1")
        raise Refusal(reply, "Known_Recipients", f"{recipient} is not listed")


async def _ask_target(state: CheckContext, rcpt: RcptTo) -> None:
    """Ask the recipient's target about it, after everything that is decided here."""
    assert state.transaction is not None, "MAIL was accepted"
    await state.transaction.verify(Recipient(rcpt.recipient, rcpt.parameters))


def check_headers(settings: Settings, headers: bytes) -> None:
    """Apply RFC2822_Missing_Headers and detect mail loops (RFC 5321, section 6.3), at the end of the body.

    :raises Refusal: if the message is not accepted.
    """
    if settings.rfc2822_missing_headers == "reject" and not _FIELD.match(headers):
        raise Refusal(Reply(550, "The message has no header", "5.6.0"), "RFC2822_Missing_Headers", "no header")
    limit = settings.max_received_headers
    if limit and headers.count(b":") > limit and len(_RECEIVED.findall(headers)) > limit:
        raise Refusal(Reply(554, "Too many hops: the mail goes in a circle", "5.4.6"), "limit", "Max_Received_Headers")
