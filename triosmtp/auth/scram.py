"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677; tls-exporter: RFC 9266).

The library that derives the keys (scramp) supports neither ``tls-exporter``, the channel binding of TLS 1.3, nor
authorization identities.  So the exchange itself is implemented here.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

from triosmtp.auth.password import ScramKeys
from triosmtp.auth.sasl_exchange import (
    Answer,
    Challenge,
    Claim,
    Exchange,
    KeyDerivation,
    Lookup,
    MalformedResponse,
    SaslContext,
    prepare_authorization_identity,
    prepare_name,
)
from triosmtp.auth.stored_credentials import StoredCredentials

__all__ = ["scram", "scram_plus"]

_GS2 = re.compile(r"(n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,]+))?,")
_FIRST_BARE = re.compile(r"n=([^,]+),r=([!-+\--~]{1,256})(?:,.*)?")
_FINAL = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[a-oq-z]=[^,]*)*),p=([A-Za-z0-9+/=]+)")

BINDINGS: Final = ("tls-exporter", "tls-unique", "tls-server-end-point")
"""The channel bindings that are supported (RFC 5929, RFC 9266)."""


def scram(context: SaslContext) -> Exchange:
    """Run SCRAM-SHA-256."""
    return _scram(context, plus=False)


def scram_plus(context: SaslContext) -> Exchange:
    """Run SCRAM-SHA-256-PLUS."""
    return _scram(context, plus=True)


def _scram(context: SaslContext, *, plus: bool) -> Exchange:
    """Run the exchange.  It is bound to the TLS channel only with -PLUS (RFC 5802, section 6)."""
    first = _text((yield Challenge()))
    header = _GS2.match(first)
    if header is None:
        raise MalformedResponse("SCRAM's first message has no GS2 header")
    flag, binding, authorization = header.groups()
    data = b""
    if plus and binding is None:
        return Claim(user="", reason="no channel binding")
    if binding is not None:
        found = context.channel_binding(binding) if plus and binding in BINDINGS else None
        if found is None:
            return Claim(user="", reason=f"the channel binding {binding[:40]} is not available")
        data = found
    bare = first[header.end() :]
    match = _FIRST_BARE.fullmatch(bare)
    if match is None:
        raise MalformedResponse("malformed first message of SCRAM")
    user, nonce = prepare_name(_name(match[1])), match[2] + secrets.token_urlsafe(24)
    acts_for = prepare_authorization_identity(_name(authorization or ""))
    answer = yield Lookup(user)
    assert isinstance(answer, StoredCredentials)
    salt, iterations = answer.salt
    server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i={iterations}"
    final = _FINAL.fullmatch(_text((yield Challenge(server_first.encode()))))
    if final is None:
        raise MalformedResponse("malformed last message of SCRAM")
    without_proof, bound, given_nonce, proof = final.groups()
    message = f"{bare},{server_first},{without_proof}".encode()
    keys = yield KeyDerivation(answer)
    assert isinstance(keys, ScramKeys)
    signature = hmac.digest(keys.stored_key, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(_decode(proof), signature, strict=False))
    right = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
    reason = answer.reason or "wrong password"
    if not (hmac.compare_digest(_decode(bound), header[0].encode() + data) and given_nonce == nonce):
        right, reason = False, "the channel binding or the nonce does not match"
    elif flag == "y" and context.offers_plus:
        # RFC 5802, section 6: the client supports channel binding and believes that the server does not.  So the list
        # of mechanisms was changed on its way.
        right, reason = False, "SCRAM-SHA-256-PLUS was removed from the list of mechanisms on its way to the client"
    if not (right and answer.proves_by_scram):
        return Claim(user=user, authorization=acts_for, reason=reason)
    last = b"v=" + base64.b64encode(hmac.digest(keys.server_key, message, "sha256"))
    return Claim(user=user, authorization=acts_for, proven=True, last=last)


def _text(answer: Answer) -> str:
    assert isinstance(answer, bytes)
    try:
        return answer.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedResponse("the message of SCRAM is not UTF-8") from None


def _name(text: str) -> str:
    """Decode ``saslname``: ``=2C`` is a comma and ``=3D`` an equals sign.  There is no other escape."""
    if re.search("=(?!2C|3D)", text):
        raise MalformedResponse("the name in a message of SCRAM has an invalid escape")
    return text.replace("=2C", ",").replace("=3D", "=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedResponse("the message of SCRAM is not base64") from None
