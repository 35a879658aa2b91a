"""The short mechanisms (PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, EXTERNAL), and the table of all mechanisms."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from triosmtp.auth.sasl_exchange import (
    Answer,
    Challenge,
    Claim,
    Exchange,
    Lookup,
    MalformedResponse,
    SaslContext,
    prepare_authorization_identity,
    prepare_name,
    with_initial_response,
)
from triosmtp.auth.scram import scram, scram_plus
from triosmtp.auth.stored_credentials import StoredCredentials

__all__ = ["MECHANISMS", "PLAINTEXT", "UNEXPECTED_RESPONSE", "Mechanism"]

UNEXPECTED_RESPONSE: Final = "an initial response of a mechanism in which the server begins"

_PAIR = re.compile(rb'[ \t]*([a-z0-9-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))[ \t]*(?:,|$)')
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


@frozen(slots=True, kw_only=True)
class Mechanism:
    """One SASL mechanism."""

    name: str
    run: Callable[[SaslContext], Exchange]
    client_first: bool = True
    """Whether the client begins; then it may send an initial response."""
    forms: frozenset[str] = frozenset()
    """The forms of stored passwords that it can check: ``cleartext``, ``hash``, ``scram``, ``digest``."""
    needs_tls: bool = False
    """Whether it may be used only with TLS, regardless of the options."""

    def begin(self, context: SaslContext, initial: bytes | None) -> Exchange:
        """Begin an exchange.

        :raises MalformedResponse: if the client sent an initial response and the server begins (RFC 4422, section 5).
        """
        exchange = self.run(context)
        if initial is None:
            return exchange
        if not self.client_first:
            raise MalformedResponse(UNEXPECTED_RESPONSE)
        return with_initial_response(exchange, initial)


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedResponse("a response that is not UTF-8") from None


def _octets(answer: Answer) -> bytes:
    assert isinstance(answer, bytes)
    return answer


def _credentials(answer: Answer) -> StoredCredentials:
    assert isinstance(answer, StoredCredentials)
    return answer


def _plain(context: SaslContext) -> Exchange:  # noqa: ARG001 - as every mechanism
    """Run PLAIN (RFC 4616)."""
    parts = _octets((yield Challenge())).split(b"\0")
    if len(parts) != 3:
        raise MalformedResponse("expected the form of PLAIN: authzid NUL authcid NUL password")
    authorization, user, password = map(_text, parts)
    return Claim(
        user=prepare_name(user),
        authorization=prepare_authorization_identity(authorization),
        password=prepare_name(password),
    )


def _login(context: SaslContext) -> Exchange:  # noqa: ARG001 - as every mechanism
    """Run LOGIN, which has no RFC: user and password, each after a prompt that clients check.

    The initial response, if there is one (as of Outlook), is the user's name.
    """
    user = _octets((yield Challenge(b"Username:")))
    password = _octets((yield Challenge(b"Password:")))
    return Claim(user=prepare_name(_text(user)), password=prepare_name(_text(password)))


def _cram_md5(context: SaslContext) -> Exchange:
    """Run CRAM-MD5 (RFC 2195)."""
    challenge = f"<{secrets.token_hex(16)}@{context.hostname}>".encode()
    name, space, digest = _octets((yield Challenge(challenge))).rpartition(b" ")
    if not space:
        raise MalformedResponse("expected the form of CRAM-MD5: user SP digest")
    user = prepare_name(_text(name))
    stored = _credentials((yield Lookup(user)))
    password = stored.cleartext if stored.cleartext is not None else stored.mock_password
    expected = hmac.new(password.encode(), challenge, "md5").hexdigest().encode()
    return _claim(user, hmac.compare_digest(digest.lower(), expected) and stored.cleartext is not None, stored)


def _claim(user: str, proven: bool, stored: StoredCredentials, **more: str) -> Claim:
    reason = "" if proven else stored.reason or "wrong password"
    return Claim(user=user, proven=proven, reason=reason, **more)  # type: ignore[arg-type]


def _digest_md5(context: SaslContext) -> Exchange:
    """Run DIGEST-MD5 (RFC 2831) without its layers of integrity and confidentiality: TLS provides them."""
    realm, nonce = context.realm or context.hostname, secrets.token_urlsafe(24)
    first = f'realm="{realm}",nonce="{nonce}",qop="auth",charset=utf-8,algorithm=md5-sess'
    fields = _directives(_octets((yield Challenge(first.encode()))))
    needed = ("username", "nonce", "cnonce", "nc", "digest-uri", "response")
    if any(name not in fields for name in needed):
        raise MalformedResponse("a required directive of DIGEST-MD5 is missing")
    user = prepare_name(_text(fields["username"]))
    stored = _credentials((yield Lookup(user)))
    given = fields.get("realm", b"").decode("utf-8", "replace")
    known = stored.digest(user, given or realm)
    right = (
        fields["nonce"] == nonce.encode()
        and fields["nc"] == b"00000001"  # each nonce is used once
        and fields.get("qop", b"auth") == b"auth"
        and given in {"", realm}
        and fields["digest-uri"].split(b"/")[0].lower() == b"smtp"
    )
    a1 = _md5((known or stored.mock_digest) + b":" + fields["nonce"] + b":" + fields["cnonce"] + _authzid(fields))
    proof = _response(a1, fields, b"AUTHENTICATE:")
    proven = hmac.compare_digest(proof, fields["response"].lower()) and right and known is not None
    last = b"rspauth=" + _response(a1, fields, b":")
    authorization = prepare_authorization_identity(_text(fields.get("authzid", b"")))
    claim = _claim(user, proven, stored, authorization=authorization)
    return claim if not proven else Claim(user=user, authorization=authorization, proven=True, last=last)


def _authzid(fields: Mapping[str, bytes]) -> bytes:
    return b":" + fields["authzid"] if "authzid" in fields else b""


def _md5(octets: bytes) -> bytes:
    return hashlib.md5(octets, usedforsecurity=False).hexdigest().encode()  # the mechanism prescribes MD5


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
            raise MalformedResponse("malformed directives of DIGEST-MD5")
        quoted, bare = match[2], match[3]
        fields[match[1].decode()] = bare if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        at = match.end()
    return fields


def _external(context: SaslContext) -> Exchange:
    """Run EXTERNAL (RFC 4422, appendix A): the client certificate of this connection proves the identity."""
    wanted = _text(_octets((yield Challenge())))
    identity = context.identity
    if identity is None:
        return Claim(user=wanted, proven=False, reason="the client certificate proves no identity")
    if wanted and wanted != identity and prepare_name(wanted) != _prepared_or_none(identity):
        return Claim(
            user=identity,
            authorization=wanted,
            proven=False,
            reason="the authorization identity is that of another user",
        )
    return Claim(user=identity, proven=True)


def _prepared_or_none(identity: str) -> str | None:
    """Return the identity of a certificate prepared by SASLprep; None if SASLprep forbids it."""
    try:
        return prepare_name(identity)
    except MalformedResponse:
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
"""All mechanisms by name, in the order in which they are offered: the strongest first."""

PLAINTEXT: Final = frozenset({"PLAIN", "LOGIN"})
"""The mechanisms that send the password in clear text."""
