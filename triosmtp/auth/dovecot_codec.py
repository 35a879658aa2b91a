"""Dovecot's authentication protocol, version 1, from the side of a client.  No stream, no Trio.

A line has a command and parameters, with tabs between them.  Requests share one connection, and each has a number (see
https://doc.dovecot.org/2.4.0/developers/design/auth_protocol.html).  The version here is 1.2, that of Dovecot 2.3.
Version 1.3 adds mechanisms with channel bindings, which a server offers only to clients that announce 1.3.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import field, frozen

__all__ = [
    "MAX_LINE", "MAX_MECHANISMS", "Continued", "DovecotCodec", "DovecotError", "Failed", "ServiceAnswer", "Succeeded",
]  # fmt: skip

MAX_LINE: Final = 16_384
"""Octets of a line in either direction, as in Dovecot (AUTH_CLIENT_MAX_LINE_LENGTH)."""
MAX_MECHANISMS: Final = 64
_MAX_HANDSHAKE_LINES: Final = 256
_MAX_USER: Final = 512
_VERSION: Final = b"VERSION\t1\t2"
_NUMBER: Final = re.compile(rb"[0-9]{1,10}").fullmatch
_MECHANISM: Final = re.compile(rb"[A-Z0-9_-]{1,20}").fullmatch  # RFC 4422, section 3.1
_ESCAPES: Final = {b"0": b"\0", b"t": b"\t", b"r": b"\r", b"n": b"\n"}
_ESCAPED: Final = re.compile(rb"\x01(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(rb"[\0\x01\t\r\n]")
_ESCAPE_OF: Final = {b"\0": b"\x010", b"\x01": b"\x011", b"\t": b"\x01t", b"\r": b"\x01r", b"\n": b"\x01n"}


class DovecotError(Exception):
    """The service violated the protocol; nothing more can be read from this connection."""


@frozen(slots=True)
class Continued:
    """A challenge for the client."""

    data: bytes = field(repr=False)


@frozen(slots=True)
class Succeeded:
    """The client has proved that it may act as ``user``."""

    user: str


@frozen(slots=True)
class Failed:
    """The client has proved nothing.  ``reason`` is for the log; ``user`` is ``""`` if the service did not say it.

    If ``is_temporary``, the service could not check the attempt.
    """

    user: str = ""
    reason: str = ""
    is_temporary: bool = False


ServiceAnswer: TypeAlias = Continued | Succeeded | Failed


class DovecotCodec:
    """One connection: octets in, answers out; requests in, octets out.

    An answer to a request that is not known any more is ignored: it was cancelled, or has ended.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines = 0
        self._has_version = False
        self._last = 0
        self._mechanisms: dict[str, frozenset[str]] = {}
        self.is_ready = False
        """Whether the service has sent all of its handshake."""

    @property
    def mechanisms(self) -> Mapping[str, frozenset[str]]:
        """The mechanisms that the service offers, and the flags of each, such as ``plaintext``."""
        return MappingProxyType(self._mechanisms)

    def greeting(self) -> bytes:
        """Return what a client sends first.  Its number must differ from those of all other clients."""
        return _VERSION + b"\nCPID\t%d\n" % (secrets.randbelow(2**31 - 1) + 1)

    # Requests

    def begin(self, mechanism: str, attributes: Iterable[str], initial: bytes | None) -> tuple[int, bytes]:
        """Return the number of a new request, and its line; ``attributes`` are ``name`` or ``name=value``.

        :raises DovecotError: if the line is too long.
        """
        self._last += 1
        words = [b"AUTH", b"%d" % self._last, *(_escape(each) for each in (mechanism, *attributes))]
        if initial is not None:
            # Always the last one.  An empty response is "=", because none at all is without a value for Dovecot.
            words.append(b"resp=" + (base64.b64encode(initial) or b"="))
        return self._last, _line(words)

    def proceed(self, number: int, data: bytes) -> bytes:
        """Return the line with the client's answer to a challenge.

        :raises DovecotError: if the line is too long.
        """
        return _line((b"CONT", b"%d" % number, base64.b64encode(data)))

    def cancel(self, number: int) -> bytes:
        """Return the line that ends a request."""
        return _line((b"CANCEL", b"%d" % number))

    # Answers

    def receive_data(self, data: bytes) -> list[tuple[int, ServiceAnswer]]:
        """Read what the service sent; return the answers, each with the number of its request.

        :raises DovecotError: if the protocol is violated.
        """
        self._buffer += data
        answers = []
        while (end := self._buffer.find(b"\n")) >= 0:
            if end > MAX_LINE:
                break
            words = bytes(self._buffer[:end]).split(b"\t")
            del self._buffer[: end + 1]
            if not self.is_ready:
                self._read_handshake(words)
            elif words[0] in {b"OK", b"CONT", b"FAIL"}:  # other commands are of later versions
                answers.append(self._read_answer(words))
        if len(self._buffer) > MAX_LINE:
            raise DovecotError(f"a line above {MAX_LINE} octets")
        return answers

    def _read_handshake(self, words: list[bytes]) -> None:
        self._lines += 1
        if self._lines > _MAX_HANDSHAKE_LINES:
            raise DovecotError(f"a handshake of more than {_MAX_HANDSHAKE_LINES} lines")
        if not self._has_version:
            if words[0] != b"VERSION" or len(words) < 3 or words[1] != b"1":
                raise DovecotError(f"not version 1 of Dovecot's authentication protocol: {_shown(words)}")
            self._has_version = True
        elif words[0] == b"MECH":
            self._read_mechanism(words)
        elif words[0] == b"DONE":
            self.is_ready = True

    def _read_mechanism(self, words: list[bytes]) -> None:
        if len(words) < 2 or not _MECHANISM(words[1]):
            raise DovecotError(f"not a SASL mechanism: {_shown(words)}")
        if len(self._mechanisms) >= MAX_MECHANISMS:
            raise DovecotError(f"more than {MAX_MECHANISMS} mechanisms")
        self._mechanisms[words[1].decode("ascii")] = frozenset(each.decode("ascii", "replace") for each in words[2:])

    def _read_answer(self, words: list[bytes]) -> tuple[int, ServiceAnswer]:
        number = int(words[1]) if len(words) > 1 and _NUMBER(words[1]) else 0
        if not 0 < number <= self._last:
            raise DovecotError("an answer to a request that was never sent")
        if words[0] == b"CONT":
            try:
                return number, Continued(base64.b64decode(words[2] if len(words) > 2 else b"", validate=True))
            except binascii.Error:
                raise DovecotError("a challenge that is not base64") from None
        parameters = dict(_split(each) for each in words[2:])
        return number, (_succeeded if words[0] == b"OK" else _failed)(parameters)


def _succeeded(parameters: Mapping[str, str]) -> ServiceAnswer:
    user = parameters.get("user", "")
    for denial in ("nologin", "proxy"):
        if denial in parameters:  # the credentials are right, but the user has no access
            return Failed(user, parameters.get("reason") or f"the user has {denial}")
    if not user or len(user) > _MAX_USER or not user.isprintable():
        return Failed("", "the service accepted a user without a usable name", is_temporary=True)
    return Succeeded(user)


def _failed(parameters: Mapping[str, str]) -> Failed:
    user, code = parameters.get("user", ""), parameters.get("code", "")
    # Before 2.3 there was no code, but parameters of their own.
    is_temporary = code == "temp_fail" or "temp" in parameters
    reason = parameters.get("reason") or code or ("temporary failure" if is_temporary else "refused by Dovecot")
    return Failed(user if len(user) <= _MAX_USER and user.isprintable() else "", reason[:200], is_temporary)


def _split(word: bytes) -> tuple[str, str]:
    name, _, value = word.partition(b"=")
    text = _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), value)
    return name.decode("utf-8", "replace"), text.decode("utf-8", "replace")


def _escape(text: str) -> bytes:
    return _TO_ESCAPE.sub(lambda match: _ESCAPE_OF[match[0]], text.encode("utf-8", "replace"))


def _line(words: Iterable[bytes]) -> bytes:
    line = b"\t".join(words) + b"\n"
    if len(line) > MAX_LINE:
        raise DovecotError(f"a request above {MAX_LINE} octets")
    return line


def _shown(words: list[bytes]) -> str:
    return repr(b" ".join(words)[:60].decode("utf-8", "replace"))
