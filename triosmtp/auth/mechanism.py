"""The mechanisms that need no more than a few lines each, and the table of all of them."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from triosmtp.auth.exchange import (
    Answer,
    Challenge,
    Circumstances,
    Claim,
    Exchange,
    Lookup,
    Malformed,
    prepared,
    prepared_identity,
    primed,
)
from triosmtp.auth.scram import scram, scram_plus
from triosmtp.auth.secret import Secret

__all__ = ["MECHANISMS", "PLAINTEXT", "Mechanism"]

_PAIR = re.compile(rb'[ \t]*([a-z0-9-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))[ \t]*(?:,|$)')
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


@frozen(slots=True, kw_only=True)
class Mechanism:
    """One SASL mechanism."""

    name: str
    run: Callable[[Circumstances], Exchange]
    client_first: bool = True
    """Whether the client begins, so that it may send an initial response."""
    forms: frozenset[str] = frozenset()
    """Of which stored passwords it can prove a user: ``cleartext``, ``hash``, ``scram``, ``digest``."""
    needs_tls: bool = False
    """Whether it may not be used without TLS, whatever the options say."""

    def begin(self, circumstances: Circumstances, initial: bytes | None) -> Exchange:
        """Begin an exchange.

        :raises Malformed: where the client sent an initial response and the server begins (RFC 4422, section 5).
        """
        exchange = self.run(circumstances)
        if initial is None:
            return exchange
        if not self.client_first:
            raise Malformed("an initial response, where the server begins")
        return primed(exchange, initial)


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a response that is not UTF-8") from None


def _octets(answer: Answer) -> bytes:
    assert isinstance(answer, bytes)
    return answer


def _secret(answer: Answer) -> Secret:
    assert isinstance(answer, Secret)
    return answer


def _plain(circumstances: Circumstances) -> Exchange:  # noqa: ARG001 - as every mechanism
    """RFC 4616."""
    parts = _octets((yield Challenge())).split(b"\0")
    if len(parts) != 3:
        raise Malformed("PLAIN is authzid NUL authcid NUL password")
    authorization, user, password = map(_text, parts)
    return Claim(user=prepared(user), authorization=prepared_identity(authorization), password=prepared(password))


def _login(circumstances: Circumstances) -> Exchange:  # noqa: ARG001 - as every mechanism
    """No RFC: user and password, each asked for by a prompt that clients look at.

    A client that sends an initial response sends the name (as Outlook does).
    """
    user = _octets((yield Challenge(b"Username:")))
    password = _octets((yield Challenge(b"Password:")))
    return Claim(user=prepared(_text(user)), password=prepared(_text(password)))


def _cram_md5(circumstances: Circumstances) -> Exchange:
    """RFC 2195."""
    challenge = f"<{secrets.token_hex(16)}@{circumstances.hostname}>".encode()
    name, space, digest = _octets((yield Challenge(challenge))).rpartition(b" ")
    if not space:
        raise Malformed("CRAM-MD5 is user SP digest")
    user = prepared(_text(name))
    secret = _secret((yield Lookup(user)))
    password = secret.cleartext if secret.cleartext is not None else secret.decoy
    expected = hmac.new(password.encode(), challenge, "md5").hexdigest().encode()
    return _told(user, hmac.compare_digest(digest.lower(), expected) and secret.cleartext is not None, secret)


def _told(user: str, proven: bool, secret: Secret, **more: str) -> Claim:
    reason = "" if proven else secret.reason or "wrong password"
    return Claim(user=user, proven=proven, reason=reason, **more)  # type: ignore[arg-type]


def _digest_md5(circumstances: Circumstances) -> Exchange:
    """RFC 2831, without its layers of integrity and secrecy: TLS is there for that."""
    realm, nonce = circumstances.realm or circumstances.hostname, secrets.token_urlsafe(24)
    first = f'realm="{realm}",nonce="{nonce}",qop="auth",charset=utf-8,algorithm=md5-sess'
    fields = _directives(_octets((yield Challenge(first.encode()))))
    needed = ("username", "nonce", "cnonce", "nc", "digest-uri", "response")
    if any(name not in fields for name in needed):
        raise Malformed("DIGEST-MD5 without all of its directives")
    user = prepared(_text(fields["username"]))
    secret = _secret((yield Lookup(user)))
    given = fields.get("realm", b"").decode("utf-8", "replace")
    known = secret.digest(user, given or realm)
    right = (
        fields["nonce"] == nonce.encode()
        and fields["nc"] == b"00000001"  # each nonce serves once
        and fields.get("qop", b"auth") == b"auth"
        and given in {"", realm}
        and fields["digest-uri"].split(b"/")[0].lower() == b"smtp"
    )
    a1 = _md5((known or secret.decoy_digest) + b":" + fields["nonce"] + b":" + fields["cnonce"] + _authzid(fields))
    proof = _response(a1, fields, b"AUTHENTICATE:")
    proven = hmac.compare_digest(proof, fields["response"].lower()) and right and known is not None
    last = b"rspauth=" + _response(a1, fields, b":")
    authorization = prepared_identity(_text(fields.get("authzid", b"")))
    claim = _told(user, proven, secret, authorization=authorization)
    return claim if not proven else Claim(user=user, authorization=authorization, proven=True, last=last)


def _authzid(fields: Mapping[str, bytes]) -> bytes:
    return b":" + fields["authzid"] if "authzid" in fields else b""


def _md5(octets: bytes) -> bytes:
    return hashlib.md5(octets, usedforsecurity=False).hexdigest().encode()  # the mechanism's, for good or ill


def _response(a1: bytes, fields: Mapping[str, bytes], method: bytes) -> bytes:
    middle = b":".join((fields["nonce"], fields["nc"], fields["cnonce"], b"auth"))
    return _md5(a1 + b":" + middle + b":" + _md5(method + fields["digest-uri"]))


def _directives(octets: bytes) -> dict[str, bytes]:
    """Parse ``name=value, name="value"``, each name once (RFC 2831, section 7.1)."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(octets):
        match = _PAIR.match(octets, at)
        if match is None or match[1].decode() in fields:
            raise Malformed("malformed directives of DIGEST-MD5")
        quoted, bare = match[2], match[3]
        fields[match[1].decode()] = bare if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        at = match.end()
    return fields


def _external(circumstances: Circumstances) -> Exchange:
    """RFC 4422, appendix A: the certificate of this very handshake says who the client is."""
    wanted = _text(_octets((yield Challenge())))
    identity = circumstances.identity
    if identity is None:
        return Claim(user=wanted, proven=False, reason="the client certificate stands for nobody")
    if wanted and wanted != identity and prepared(wanted) != _prepared_or_none(identity):
        return Claim(user=identity, authorization=wanted, proven=False, reason="acts for another one")
    return Claim(user=identity, proven=True)


def _prepared_or_none(identity: str) -> str | None:
    """Return a certificate's identity prepared; None if it cannot be: then it is compared as it is."""
    try:
        return prepared(identity)
    except Malformed:
        return None


_READABLE = frozenset({"cleartext"})
_SCRAM, _DIGEST = _READABLE | {"scram"}, _READABLE | {"digest"}
_ANY = _SCRAM | {"hash"}

MECHANISMS: Final[Mapping[str, Mechanism]] = MappingProxyType(
    {
        each.name: each
        for each in (
            Mechanism(name="EXTERNAL", run=_external, needs_tls=True),
            Mechanism(name="SCRAM-SHA-256-PLUS", run=scram_plus, forms=_SCRAM, needs_tls=True),
            Mechanism(name="SCRAM-SHA-256", run=scram, forms=_SCRAM),
            Mechanism(name="DIGEST-MD5", run=_digest_md5, forms=_DIGEST, client_first=False),
            Mechanism(name="CRAM-MD5", run=_cram_md5, forms=_READABLE, client_first=False),
            Mechanism(name="PLAIN", run=_plain, forms=_ANY),
            Mechanism(name="LOGIN", run=_login, forms=_ANY),
        )
    }
)
"""Every mechanism, the strongest first: the order in which they are offered."""

PLAINTEXT: Final = frozenset({"PLAIN", "LOGIN"})
"""Those that send a readable password."""
