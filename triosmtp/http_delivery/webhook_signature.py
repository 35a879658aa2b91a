"""The signature of a request (https://www.standardwebhooks.com, version 1).

It is an HMAC of the id of the message, the time and the whole body.  A receiver that knows one of the secrets can check
it, also while a secret is replaced by another one: there is a signature for each.
"""

import base64
import binascii
import hmac
import logging
from collections.abc import Iterable
from typing import Final

from triosmtp.delivery import SecretFile, SecretFileError

__all__ = ["SigningSecrets", "WebhookSigner", "decode_secret"]

_log = logging.getLogger("triosmtp.delivery")

_PREFIX: Final = "whsec_"
_SIZES: Final = range(24, 65)
"""Octets of a secret, as the specification recommends."""


def decode_secret(text: str) -> bytes:
    """Return the octets of a secret: ``whsec_`` and base64.

    :raises ValueError: if it is none.  The text does not hold the secret.
    """
    expected = f"a secret is {_PREFIX} and the base64 of {_SIZES.start} to {_SIZES.stop - 1} random octets"
    if not text.startswith(_PREFIX):
        raise ValueError(expected)
    try:
        octets = base64.b64decode(text.removeprefix(_PREFIX).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(expected) from None
    if len(octets) not in _SIZES:
        raise ValueError(expected)
    return octets


class SigningSecrets:
    """The secrets of a file, the newest first: two at most, while one is replaced by another one.

    A new content that cannot be used is logged, and the former secrets stay in use.
    """

    def __init__(self, file: SecretFile) -> None:
        self._file = file
        self._values: tuple[str, ...] = ()
        self._secrets: tuple[bytes, ...] = ()

    def check(self) -> None:
        """Read the file.  It blocks.

        :raises SecretFileError: if it cannot be used.
        """
        self._file.check()
        try:
            self._decode(self._file.current)
        except ValueError as error:
            raise SecretFileError(f'"{self._file}": {error}') from None

    async def read(self) -> tuple[bytes, ...]:
        """Return the secrets in force.

        :raises SecretFileError: if the file could never be used.
        """
        values = await self._file.read()
        if values != self._values:
            try:
                self._decode(values)
            except ValueError as error:
                if not self._secrets:
                    raise SecretFileError(f'"{self._file}": {error}') from None
                _log.error('"%s": %s: the former secrets stay in use', self._file, error)
                self._values = values
        return self._secrets

    def _decode(self, values: tuple[str, ...]) -> None:
        self._secrets = tuple(map(decode_secret, values))
        self._values = values


class WebhookSigner:
    """Signs one request, whose body is given in parts."""

    def __init__(self, secrets: Iterable[bytes], message: str, timestamp: int) -> None:
        begin = f"{message}.{timestamp}.".encode("ascii")
        self._codes = [hmac.new(secret, begin, "sha256") for secret in secrets]

    def update(self, part: bytes) -> None:
        """Add the next octets of the body."""
        for code in self._codes:
            code.update(part)

    @property
    def signature(self) -> str:
        """The value of ``webhook-signature``."""
        return " ".join(f"v1,{base64.b64encode(code.digest()).decode('ascii')}" for code in self._codes)
