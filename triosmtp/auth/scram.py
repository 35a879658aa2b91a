"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677; tls-exporter: RFC 9266).

The library that derives keys for us (scramp) knows neither ``tls-exporter``, which is what TLS 1.3 has, nor
authorization identities; so the exchange itself is here.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

from triosmtp.auth.exchange import (
    Answer,
    Challenge,
    Circumstances,
    Claim,
    Derivation,
    Exchange,
    Lookup,
    Malformed,
    prepared,
    prepared_identity,
)
from triosmtp.auth.password import ScramKeys
from triosmtp.auth.secret import Secret

__all__ = ["scram", "scram_plus"]

_GS2 = re.compile(r"(n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,]+))?,")
_FIRST_BARE = re.compile(r"n=([^,]+),r=([!-+\--~]{1,256})(?:,.*)?")
_FINAL = re.compile(r"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,[a-oq-z]=[^,]*)*),p=([A-Za-z0-9+/=]+)")

BINDINGS: Final = ("tls-exporter", "tls-unique", "tls-server-end-point")
"""The channel bindings that are known (RFC 5929, RFC 9266)."""


def scram(circumstances: Circumstances) -> Exchange:
    """SCRAM-SHA-256."""
    return _scram(circumstances, plus=False)


def scram_plus(circumstances: Circumstances) -> Exchange:
    """SCRAM-SHA-256-PLUS."""
    return _scram(circumstances, plus=True)


def _scram(circumstances: Circumstances, *, plus: bool) -> Exchange:
    """Run the exchange.  It binds to the channel with -PLUS, and only then (RFC 5802, section 6)."""
    first = _text((yield Challenge()))
    header = _GS2.match(first)
    if header is None:
        raise Malformed("SCRAM's first message has no GS2 header")
    flag, binding, authorization = header.groups()
    data = b""
    if plus and binding is None:
        return Claim(user="", reason="no channel binding")
    if binding is not None:
        found = circumstances.bindings(binding) if plus and binding in BINDINGS else None
        if found is None:
            return Claim(user="", reason=f"the channel binding {binding[:40]} is not to be had")
        data = found
    bare = first[header.end() :]
    match = _FIRST_BARE.fullmatch(bare)
    if match is None:
        raise Malformed("malformed first message of SCRAM")
    user, nonce = prepared(_name(match[1])), match[2] + secrets.token_urlsafe(24)
    acts_for = prepared_identity(_name(authorization or ""))
    answer = yield Lookup(user)
    assert isinstance(answer, Secret)
    salt, iterations = answer.salt
    server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i={iterations}"
    final = _FINAL.fullmatch(_text((yield Challenge(server_first.encode()))))
    if final is None:
        raise Malformed("malformed last message of SCRAM")
    without_proof, bound, given_nonce, proof = final.groups()
    message = f"{bare},{server_first},{without_proof}".encode()
    keys = yield Derivation(answer)
    assert isinstance(keys, ScramKeys)
    signature = hmac.digest(keys.stored_key, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(_decode(proof), signature, strict=False))
    right = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
    reason = answer.reason or "wrong password"
    if not (hmac.compare_digest(_decode(bound), header[0].encode() + data) and given_nonce == nonce):
        right, reason = False, "the channel binding or the nonce is another one"
    elif flag == "y" and circumstances.plus:
        # RFC 5802, section 6: the client believes that we bind to no channel, so somebody has changed what we offered.
        right, reason = False, "the client was told that channels are not bound: somebody is in between"
    if not (right and answer.proves_by_scram):
        return Claim(user=user, authorization=acts_for, reason=reason)
    last = b"v=" + base64.b64encode(hmac.digest(keys.server_key, message, "sha256"))
    return Claim(user=user, authorization=acts_for, proven=True, last=last)


def _text(answer: Answer) -> str:
    assert isinstance(answer, bytes)
    try:
        return answer.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a message of SCRAM that is not UTF-8") from None


def _name(text: str) -> str:
    """Decode ``saslname``: ``=2C`` is a comma and ``=3D`` an equals sign, and nothing else is escaped."""
    if re.search("=(?!2C|3D)", text):
        raise Malformed("a name of SCRAM with an escape that is none")
    return text.replace("=2C", ",").replace("=3D", "=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("a message of SCRAM that is not base64") from None
