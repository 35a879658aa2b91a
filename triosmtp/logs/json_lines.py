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
    quoted, variables = e.session.quoted, e.variables
    if (
        quoted is None
        or not (e.message and e.helo and e.recipients)
        or e.answers
        or e.discarded_by
        or "auth_status" in variables
        or "client_name" in variables
    ):
        return None
    secured = '"tls":"off"' if e.tls is None else _tls(e.tls)
    if secured is None:
        return None
    name, peer, listener = quoted
    return (
        f'"level":"info","event":"accepted","session":{name},"message":{_quote(e.message)},"peer":{peer},'
        f'"listener":{listener},"helo":{_quote(e.helo)},"from":{_quote(e.sender)},'
        f'"to":[{",".join(map(_quote, e.recipients))}],"size":{e.size!r},"seconds":{round(e.seconds, 4)!r},'
        f'"decided_by":"delivery",{secured}'
    )


def _tls_established(e: TLSEstablished) -> str | None:
    quoted, secured = e.session.quoted, _tls(e.tls)
    if quoted is None or secured is None:
        return None
    name, peer, listener = quoted
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
    quoted = e.session.quoted
    if quoted is None or not e.reason or e.detail:
        return None
    name, peer, listener = quoted
    return (
        f'"level":"info","event":"disconnected","session":{name},"peer":{peer},"listener":{listener},'
        f'"reason":{_quote(e.reason)},"seconds":{round(e.seconds, 3)!r},"messages":{e.messages!r}'
    )


JSON_LINES: Final[dict[type, Callable[[Any], str | None]]] = {
    MessageAccepted: _accepted,
    TLSEstablished: _tls_established,
    Disconnected: _disconnected,
}
"""The function of each of these events."""
