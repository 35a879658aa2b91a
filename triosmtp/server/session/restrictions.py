"""The built-in rules: what a phase refuses where no policy has decided already.  Each raises its refusal."""

import re
from typing import Final

from triosmtp.config import Settings
from triosmtp.limits.spool_space import find_spool_limit
from triosmtp.policy import Session
from triosmtp.server.known_recipients import KnownRecipients
from triosmtp.server.recipient_file import RecipientFileError
from triosmtp.server.relay import RelayRules, SenderRules
from triosmtp.server.service import Service, limiter_key, speaks_for_many
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import Address, Reply
from triosmtp.variables import TLSInfo

__all__ = [
    "check_exists", "check_headers", "check_rate", "check_receptions", "check_recipients", "check_relay",
    "check_sender", "check_space", "check_tls_for", "demand_certificate",
]  # fmt: skip

_PLAINTEXT: Final = Reply(530, "Must issue a STARTTLS command first", "5.7.0")
_RECEIVED: Final = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")


def check_receptions(settings: Settings, messages: int) -> None:
    """Max_Receptions_Per_Connection: at MAIL, after so many ``messages``."""
    limit = settings.max_receptions_per_connection
    if limit and messages >= limit:
        reply = Reply(421, "Too many messages on this connection", "4.7.0")
        raise Refusal(reply, "limit", "Max_Receptions_Per_Connection")


async def check_rate(service: Service, session: Session, option: str, limit: tuple[int, float]) -> None:
    """Inbound_Throttle_Messages, Recipient_Rate_Per_Peer: count one more of the peer's, if that is within the limit."""
    if not await service.count_peer(option, session.peer_address, limit):
        raise Refusal(Reply(450, "Too much mail for now, try again later", "4.7.1"), "limit", option)


async def check_space(service: Service, session: Session, settings: Settings, announced: str | None) -> None:
    """Spool_Max_Size and Spool_Min_Free: at MAIL, whether a message of the announced SIZE has room (RFC 1870)."""
    peer, shared = limiter_key(session), not speaks_for_many(session.peer_address, settings)
    reason = await find_spool_limit(service.space, peer, settings, int(announced or 0), shared=shared)
    if reason:
        raise Refusal(Reply(452, "Insufficient system storage", "4.3.1"), "limit", reason)


def demand_certificate(settings: Settings, tls: TLSInfo | None) -> None:
    """TLS_Verify_Mode = "require": a certificate must be there, and not be revoked.

    Whether it verified is for policy to judge.
    """
    if settings.tls_verify_mode != "require" or tls is None:
        return
    if tls.client_certificate is None:
        reply = Reply(550, "A client certificate is required", "5.7.1")
        raise Refusal(reply, "TLS_Verify_Mode", "no certificate presented")
    if tls.revoked:
        reply = Reply(550, "The client certificate was revoked", "5.7.1")
        raise Refusal(reply, "TLS_Verify_Mode", "certificate revoked")


def check_sender(rules: SenderRules, session: Session, sender: Address) -> None:
    """TLS_Require_Verified, TLS_Require_Verified_From and Require_TLS_From: at MAIL, whatever policy or AUTH said."""
    option, verified = rules.demand(sender)
    if not option:
        return
    if session.tls is None:
        raise Refusal(_PLAINTEXT, option, f"{sender.domain or 'mail'} is taken over TLS alone")
    if verified and not rules.accepts(session.tls):
        reason = session.tls.verify_error or "it did not verify"
        reply = Reply(550, f"A client certificate that verifies is required: {reason}", "5.7.1")
        raise Refusal(reply, option, reason)


def check_recipients(settings: Settings, of_message: int, of_connection: int) -> None:
    """Max_Recipients_Per_Message and Max_Recipients_Per_Connection: at RCPT, after so many."""
    if settings.max_recipients_per_message and of_message >= settings.max_recipients_per_message:
        # The sender comes back with the rest (RFC 5321, section 4.5.3.1.10).
        raise Refusal(Reply(452, "Too many recipients", "4.5.3"), "limit", "Max_Recipients_Per_Message")
    if settings.max_recipients_per_connection and of_connection >= settings.max_recipients_per_connection:
        reply = Reply(421, "Too many recipients on this connection", "4.7.0")
        raise Refusal(reply, "limit", "Max_Recipients_Per_Connection")


def check_tls_for(relay: RelayRules, session: Session, recipient: Address) -> None:
    """Require_TLS_For: recipients of these domains are taken over TLS alone."""
    if session.tls is None and relay.demands_tls(recipient):
        raise Refusal(_PLAINTEXT, "Require_TLS_For", f"{recipient.domain} takes mail over TLS alone")


async def check_exists(known: KnownRecipients, recipient: Address) -> None:
    """Known_Recipients: a recipient of ours must exist, whatever policy said, and whoever the peer is."""
    try:
        exists = await known.contains(recipient)
    except RecipientFileError as error:
        reply = Reply(451, "The recipient cannot be looked up, try again later", "4.3.0")
        raise Refusal(reply, "Known_Recipients", str(error)) from None
    if not exists:
        reply = Reply(550, "The recipient is not known here", "5.1.1")
        raise Refusal(reply, "Known_Recipients", f"{recipient} is not listed")


def check_relay(relay: RelayRules, session: Session, sender: Address, recipient: Address, path: str) -> bool:
    """Whether the peer may send to ``recipient``.  Return True if it is its sender alone that permits it.

    ``path`` is the recipient's path as it came.
    """
    local = relay.is_local(recipient)
    if local and not relay.is_barred_route(recipient, path):
        return False
    # Asked of the rules again, not only of the variable: a policy that removed it took away no right.
    if (
        session.variables.get("can_relay") == "true"
        or relay.trusts_host(session.peer_address)
        or relay.trusts_certificate(session.tls)
        or session.auth is not None
    ):
        return False
    if relay.trusts_sender(sender):
        return not local
    if local:
        reply = Reply(550, "Recipient addresses with a route are not accepted", "5.7.1")
        raise Refusal(reply, "relay", f"{path} names a route, the peer may not relay")
    reason = f"{recipient} is not ours, the peer may not relay"
    raise Refusal(Reply(550, "relaying denied", "5.7.1"), "relay", reason)


def check_headers(settings: Settings, headers: bytes) -> None:
    """RFC2822_Missing_Headers, and mail that goes in a circle (RFC 5321, section 6.3): at the end of the body."""
    if settings.rfc2822_missing_headers == "reject" and not _FIELD.match(headers):
        raise Refusal(Reply(550, "The message has no header", "5.6.0"), "RFC2822_Missing_Headers", "no header")
    limit = settings.max_received_headers
    if limit and headers.count(b":") > limit and len(_RECEIVED.findall(headers)) > limit:
        raise Refusal(Reply(554, "Too many hops: the mail goes in a circle", "5.4.6"), "limit", "Max_Received_Headers")
