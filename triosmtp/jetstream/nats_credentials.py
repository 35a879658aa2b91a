"""The credentials of a user of NATS: a ``.creds`` file as ``nsc`` writes it, with a JWT and the seed of its nkey.

The client of nats-py reads such files itself, but never ends if the JWT is missing, and needs another library to sign.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from triosmtp.errors import TrioSMTPError
from triosmtp.filesystem import open_regular

__all__ = ["NATSCredentials", "NATSCredentialsError", "read_credentials", "read_secret"]

_MAX_FILE: Final = 64 * 1024
_BLOCK = re.compile(rb"-{3,}BEGIN (NATS USER JWT|USER NKEY SEED)-{3,}\s+([A-Za-z0-9._-]+)\s+-{3,}END \1-{3,}")
_SEED_PREFIX: Final = 18 << 3  # "S"
_USER_PREFIX: Final = 20 << 3  # "U"


class NATSCredentialsError(TrioSMTPError):
    """A file of credentials that cannot be used.  The text names the file, and no secret."""


@frozen(slots=True)
class NATSCredentials:
    """The JWT of a user, and the key that signs the nonce of a server."""

    jwt: str = field(repr=False)
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, nonce: str) -> bytes:
        """Return the signature of the nonce in base64."""
        return base64.urlsafe_b64encode(self._key.sign(nonce.encode())).rstrip(b"=")


def read_credentials(path: Path) -> NATSCredentials:
    """Read a ``.creds`` file.  It blocks.

    :raises NATSCredentialsError: if it cannot be read or it is malformed.
    """
    blocks = dict(_BLOCK.findall(_read(path)))
    jwt, seed = blocks.get(b"NATS USER JWT"), blocks.get(b"USER NKEY SEED")
    if jwt is None or seed is None:
        raise NATSCredentialsError(f"{path}: expected a NATS USER JWT and a USER NKEY SEED")
    return NATSCredentials(jwt.decode("ascii"), _key_of(seed, path))


def read_secret(path: Path) -> str:
    """Read a file that contains only a secret, without the line end.  It blocks.

    :raises NATSCredentialsError: if it cannot be read, is empty, or has several lines.
    """
    lines = _read(path).decode("utf-8", "replace").split("\n")
    secret = lines[0].removesuffix("\r")
    if not secret or any(lines[1:]):
        raise NATSCredentialsError(f"{path}: expected one line, the secret")
    return secret


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise NATSCredentialsError(f"{path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise NATSCredentialsError(f"{path}: larger than {_MAX_FILE} octets")
    return data


def _key_of(seed: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        raw = base64.b32decode(seed + b"=" * (-len(seed) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) != 36 or raw[0] & 0xF8 != _SEED_PREFIX or (raw[0] & 7) << 5 | raw[1] >> 3 != _USER_PREFIX:
        raise NATSCredentialsError(f"{path}: the USER NKEY SEED is malformed")
    if binascii.crc_hqx(raw[:34], 0) != int.from_bytes(raw[34:], "little"):
        raise NATSCredentialsError(f"{path}: the checksum of the USER NKEY SEED is wrong")
    return Ed25519PrivateKey.from_private_bytes(raw[2:34])
