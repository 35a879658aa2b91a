"""SASL as a client: PLAIN, LOGIN and SCRAM-SHA-256, for connections to other servers (RFC 4954).

SCRAM is preferred (RFC 5802, RFC 7677): the server proves that it knows the password too, and never receives it.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Generator
from typing import Final, TypeAlias

from triosmtp.auth.password import prepare_password
from triosmtp.errors import TrioSMTPError

__all__ = ["SaslClient", "SaslClientError"]

_ITERATIONS: Final = range(4096, 1_000_001)  # the least of RFC 7677, section 4; the server chooses how much work it is
_MAX_CHALLENGE: Final = 2048
_SCRAM: Final = "SCRAM-SHA-256"
_SERVER_FIRST: Final = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([0-9]{1,7})(?:,.*)?").fullmatch

_Steps: TypeAlias = Generator[bytes | None, bytes, None]


class SaslClientError(TrioSMTPError):
    """The server offers no mechanism that can be used, or violates one; the text holds no secret."""


class SaslClient:
    """One exchange with the best mechanism of those that a server ``offered``.

    ``initial`` is the initial response, or None.  Each challenge is answered by :meth:`respond`; :meth:`check_success`
    is called when the server has accepted.

    :raises SaslClientError: if the server offers no mechanism that is known here.
    """

    def __init__(self, offered: Collection[str], user: str, password: str) -> None:
        self.mechanism = next((name for name in _MECHANISMS if name in offered), "")
        """The name of the mechanism."""
        if not self.mechanism:
            found = ", ".join(sorted(offered)) or "none"
            raise SaslClientError(f"the server offers none of {', '.join(_MECHANISMS)}; it offers {found[:200]}")
        self._steps = _MECHANISMS[self.mechanism](user, password)
        self.initial = next(self._steps)
        self._responses = 0

    def respond(self, challenge: bytes) -> bytes:
        """Return the response to a challenge.  SCRAM derives a key in it: call it in a thread.

        :raises SaslClientError: if the challenge is not one of the mechanism, or the server did not prove itself.
        """
        if len(challenge) > _MAX_CHALLENGE:
            raise SaslClientError("the server's challenge is too long")
        self._responses += 1
        try:
            return self._steps.send(challenge) or b""
        except StopIteration:
            raise SaslClientError(f"the server sends one challenge too many for {self.mechanism}") from None
        except ValueError as error:
            raise SaslClientError(f"the password cannot be used with {self.mechanism}: {error}") from None

    def check_success(self) -> None:
        """Check that the exchange is complete, when the server has accepted.

        :raises SaslClientError: if a server of SCRAM has not proven that it knows the password: it is an impostor.
        """
        if self.mechanism == _SCRAM and self._responses < 2:  # the second challenge has the proof
            raise SaslClientError("the server accepted without a proof of its own")


def _plain(user: str, password: str) -> _Steps:
    """Run PLAIN (RFC 4616)."""
    yield f"\0{user}\0{password}".encode()


def _login(user: str, password: str) -> _Steps:
    """Run LOGIN, which has no RFC: the server asks for the user, then for the password."""
    yield None
    yield user.encode()
    yield password.encode()


def _scram(user: str, password: str, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> _Steps:
    """Run SCRAM-SHA-256 without channel binding."""
    ours = nonce()
    name = user.replace("=", "=3D").replace(",", "=2C")
    bare = f"n={name},r={ours}"
    server_first = _text((yield f"n,,{bare}".encode()))
    match = _SERVER_FIRST(server_first)
    if match is None or not match[1].startswith(ours) or match[1] == ours or int(match[3]) not in _ITERATIONS:
        raise SaslClientError("the server's first message of SCRAM is malformed, or asks for too little or much work")
    key = hashlib.pbkdf2_hmac("sha256", prepare_password(password).encode(), _decode(match[2]), int(match[3]))
    client_key = hmac.digest(key, b"Client Key", "sha256")
    without_proof = f"c=biws,r={match[1]}"
    message = f"{bare},{server_first},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    last = _text((yield f"{without_proof},p={base64.b64encode(proof).decode()}".encode()))
    expected = hmac.digest(hmac.digest(key, b"Server Key", "sha256"), message, "sha256")
    if not last.startswith("v=") or not hmac.compare_digest(_decode(last[2:].partition(",")[0]), expected):
        raise SaslClientError("the server does not know the password: it did not prove itself by SCRAM")
    yield b""


def _text(challenge: bytes) -> str:
    try:
        return challenge.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslClientError("the server's message of SCRAM is not UTF-8") from None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslClientError("the server's message of SCRAM is not base64") from None


_MECHANISMS: Final[dict[str, Callable[[str, str], _Steps]]] = {_SCRAM: _scram, "PLAIN": _plain, "LOGIN": _login}
"""The mechanisms, the preferred first."""
