"""The JSON lines of the most frequent events, written without a dictionary of fields and an encoder.

Each function returns the fields of a line, from ``level`` on and without the braces, exactly as
:mod:`.event_fields` and the encoder write them.  It returns None for an event with a field that is rare: then these
write the line.  A test compares the two for hostile values.
"""

from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from triosmtp.event import Disconnected, MessageAccepted, TLSEstablished
from triosmtp.variables import TLSInfo

__all__ = ["JSON_LINES"]

_quote: Final[Callable[[str], str]] = encode_basestring_ascii


def _accepted(e: MessageAccepted) -> str | None:
    session, recipients = e.session, e.recipients
    texts = session.id, e.message, session.peer, session.listener, e.helo
    variables = e.variables
    if "" in texts or not recipients or e.discarded_by or "auth_status" in variables or "client_name" in variables:
        return None
    secured = '"tls":"off"' if e.tls is None else _tls(e.tls)
    if secured is None:
        return None
    name, message, peer, listener, helo = map(_quote, texts)
    to = ",".join(map(_quote, recipients))
    return (
        f'"level":"info","event":"accepted","session":{name},"message":{message},"peer":{peer},"listener":{listener},'
        f'"helo":{helo},"from":{_quote(e.sender)},"to":[{to}],"size":{e.size!r},"seconds":{round(e.seconds, 4)!r},'
        f'"decided_by":"delivery",{secured}'
    )


def _tls_established(e: TLSEstablished) -> str | None:
    session, secured = e.session, _tls(e.tls)
    texts = session.id, session.peer, session.listener
    if "" in texts or secured is None:
        return None
    name, peer, listener = map(_quote, texts)
    return (
        f'"level":"info","event":"tls","session":{name},"peer":{peer},"listener":{listener},'
        f'"seconds":{round(e.tls.handshake_seconds, 4)!r},{secured}'
    )


def _tls(tls: TLSInfo) -> str | None:
    return _tls_fields(tls.protocol, tls.cipher, tls.group, tls.verified, tls.verify_error, tls.client_subject)


@lru_cache(maxsize=256)
def _tls_fields(
    protocol: str, cipher: str, group: str | None, verified: bool, verify_error: str | None, subject: str | None
) -> str | None:
    """Return what most handshakes have in common."""
    if not (protocol and cipher and group):
        return None
    text = f'"tls":{_quote(protocol)},"cipher":{_quote(cipher)},"group":{_quote(group)}'
    text += f',"verified":"{"yes" if verified else "no"}"'
    if verify_error:
        text += f',"verify_error":{_quote(verify_error)}'
    if subject:
        text += f',"client":{_quote(subject)}'
    return text


def _disconnected(e: Disconnected) -> str | None:
    session = e.session
    texts = session.id, session.peer, session.listener, e.reason
    if "" in texts or e.detail:
        return None
    name, peer, listener, reason = map(_quote, texts)
    return (
        f'"level":"info","event":"disconnected","session":{name},"peer":{peer},"listener":{listener},'
        f'"reason":{reason},"seconds":{round(e.seconds, 3)!r},"messages":{e.messages!r}'
    )


JSON_LINES: Final[dict[type, Callable[[Any], str | None]]] = {
    MessageAccepted: _accepted,
    TLSEstablished: _tls_established,
    Disconnected: _disconnected,
}
"""The function of each of these events."""
