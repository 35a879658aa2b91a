"""Stored passwords: the forms in a file, how a password is checked, and how a new hash is made.

``$argon2id$…`` (argon2-cffi; RFC 9106), ``$scrypt$ln=16,r=8,p=1$salt$hash`` and ``$pbkdf2-sha256$rounds$salt$hash``
(the forms of passlib, base64 without padding; RFC 7914, RFC 8018),
``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`` (that of RFC 5803 and PostgreSQL).  Any other text
is the password in clear text.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Final

from attrs import frozen

__all__ = [
    "SCHEMES",
    "ScramKeys",
    "derive_scram_keys",
    "hash_form",
    "hash_password",
    "is_hash",
    "load_libraries",
    "parse_scram_record",
    "prepare_password",
    "verify_password",
]

SCHEMES: Final = ("argon2id", "scrypt", "pbkdf2-sha256", "scram-sha-256")
"""The schemes of :func:`hash_password`."""

SCRAM_ITERATIONS: Final = 15_000
_PBKDF2_ROUNDS: Final = 600_000
_SCRYPT_LN, _SCRYPT_R, _SCRYPT_P = 16, 8, 1
_MAX_SCRYPT_MEMORY: Final = 256 * 1024 * 1024

_ARGON2 = re.compile(
    r"(\$argon2(?:id|i|d)\$(?:v=[0-9]{1,2}\$)?m=[0-9]{1,9},t=[0-9]{1,6},p=[0-9]{1,4})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)
_SCRYPT = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_PBKDF2 = re.compile(r"\$pbkdf2-sha256\$([0-9]{1,8})\$([A-Za-z0-9+/.]+)\$([A-Za-z0-9+/.]+)")
_SCRAM = re.compile(r"SCRAM-SHA-256\$([0-9]{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PREFIXES: Final = ("$argon2", "$scrypt$", "$pbkdf2-sha256$", "SCRAM-SHA-256$")


@frozen(slots=True)
class ScramKeys:
    """The keys that a server stores for SCRAM-SHA-256 instead of the password (RFC 5802, section 3)."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def load_libraries() -> None:
    """Import argon2 and scramp, which takes 25 ms.  A server calls it before it accepts connections.

    A configuration without AUTH does not need them.
    """
    import argon2  # noqa: F401, PLC0415 - as above
    import scramp.utils  # noqa: F401, PLC0415 - as above


def is_hash(stored: str) -> bool:
    """Return whether ``stored`` is a hash, not a password in clear text."""
    return stored.startswith(_PREFIXES)


def hash_form(stored: str) -> str:
    """Return the scheme of a hash with the parameters that its cost depends on; ``""`` for clear text.

    :raises ValueError: if the hash is malformed, or needs too much memory.
    """
    if not is_hash(stored):
        return ""
    if stored.startswith("SCRAM-SHA-256$"):
        return f"SCRAM-SHA-256${parse_scram_record(stored).iterations}"
    match = _ARGON2.fullmatch(stored) or _SCRYPT.fullmatch(stored) or _PBKDF2.fullmatch(stored)
    if match is None:
        raise ValueError("a malformed hash")
    salt, found = (_decode(text.replace(".", "+")) for text in match.groups()[-2:])
    if match.re is _ARGON2 and (len(salt) < 8 or len(found) < 4):
        raise ValueError("a malformed argon2 hash")
    if match.re is _SCRYPT:
        ln, r, p = (int(match[i]) for i in (1, 2, 3))
        if not (ln and r and p):
            raise ValueError("a malformed scrypt hash")
        if 128 * r * ((1 << ln) + p + 2) > _MAX_SCRYPT_MEMORY:
            raise ValueError(f"a scrypt hash that needs more than {_MAX_SCRYPT_MEMORY >> 20} MiB")
    if match.re is _PBKDF2 and not int(match[1]):
        raise ValueError("a malformed pbkdf2 hash")
    return stored.rsplit("$", 2)[0]


def verify_password(stored: str, password: str) -> bool:
    """Return whether ``password`` is the stored one.  It blocks for 10 to 200 ms, which depends on the hash.

    :raises ValueError: if ``stored`` is a malformed hash.
    """
    if stored.startswith("$argon2"):
        import argon2  # noqa: PLC0415 - see load_libraries()

        try:
            return argon2.PasswordHasher().verify(stored, password)
        except argon2.exceptions.VerificationError:
            return False
        except argon2.exceptions.InvalidHashError as error:
            raise ValueError("a malformed argon2 hash") from error
    if stored.startswith("SCRAM-SHA-256$"):
        keys = parse_scram_record(stored)
        return hmac.compare_digest(derive_scram_keys(password, keys.salt, keys.iterations).stored_key, keys.stored_key)
    if match := _SCRYPT.fullmatch(stored):
        ln, r, p = (int(match[i]) for i in (1, 2, 3))
        salt, expected = _decode(match[4]), _decode(match[5])
        found = hashlib.scrypt(
            password.encode(), salt=salt, n=1 << ln, r=r, p=p, maxmem=_MAX_SCRYPT_MEMORY, dklen=len(expected)
        )
        return hmac.compare_digest(found, expected)
    if match := _PBKDF2.fullmatch(stored):
        salt, expected = (_decode(match[i].replace(".", "+")) for i in (2, 3))
        found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(match[1]), len(expected))
        return hmac.compare_digest(found, expected)
    if is_hash(stored):
        raise ValueError("a malformed hash")
    return hmac.compare_digest(stored.encode(), password.encode())


def hash_password(password: str, scheme: str = "argon2id") -> str:
    """Hash ``password`` for a password file, with a random salt.  It blocks.

    :raises ValueError: if ``scheme`` is none of :data:`SCHEMES`.
    """
    salt = os.urandom(16)
    match scheme:
        case "argon2id":
            import argon2  # noqa: PLC0415 - as above

            return argon2.PasswordHasher().hash(password)
        case "scrypt":
            n, r, p = 1 << _SCRYPT_LN, _SCRYPT_R, _SCRYPT_P
            found = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_SCRYPT_MEMORY, dklen=32)
            return f"$scrypt$ln={_SCRYPT_LN},r={r},p={p}${_encode(salt)}${_encode(found)}"
        case "pbkdf2-sha256":
            found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _PBKDF2_ROUNDS)
            return f"$pbkdf2-sha256${_PBKDF2_ROUNDS}${_encode(salt)}${_encode(found)}".replace("+", ".")
        case "scram-sha-256":
            keys = derive_scram_keys(password, salt, SCRAM_ITERATIONS)
            parts = (base64.b64encode(each).decode() for each in (keys.salt, keys.stored_key, keys.server_key))
            return "SCRAM-SHA-256${}:{}${}:{}".format(SCRAM_ITERATIONS, *parts)
    raise ValueError(f"expected a scheme of {', '.join(SCHEMES)}, not {scheme!r}")


def prepare_password(password: str) -> str:
    """Prepare a password, or a user's name, for storing and comparing (SASLprep: RFC 4013).

    :raises ValueError: if it has characters that SASLprep forbids, or is empty.
    """
    if password.isascii() and password.isprintable() and password:
        return password  # SASLprep changes and forbids nothing in it
    from scramp import ScramException  # noqa: PLC0415 - as above
    from scramp.utils import saslprep  # noqa: PLC0415 - as above

    try:
        result = str(saslprep(password))
    except ScramException:
        raise ValueError("a name or password with characters that SASLprep forbids") from None
    if not result:
        raise ValueError("an empty name or password")
    return result


def derive_scram_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """Derive the keys of SCRAM-SHA-256 from a password.  It blocks for 10 ms."""
    from scramp import ScramMechanism  # noqa: PLC0415 - as above

    _, stored_key, server_key, _ = ScramMechanism("SCRAM-SHA-256").make_auth_info(password, iterations, salt)
    return ScramKeys(salt, iterations, stored_key, server_key)


def parse_scram_record(stored: str) -> ScramKeys:
    """Parse ``SCRAM-SHA-256$…``.

    :raises ValueError: if it is malformed, or has fewer iterations than RFC 7677 requires.
    """
    match = _SCRAM.fullmatch(stored)
    if match is None or int(match[1]) < 4096:
        raise ValueError("a malformed SCRAM-SHA-256 record")
    salt, stored_key, server_key = (_decode(match[i]) for i in (2, 3, 4))
    if len(stored_key) != 32 or len(server_key) != 32:
        raise ValueError("a malformed SCRAM-SHA-256 record")
    return ScramKeys(salt, int(match[1]), stored_key, server_key)


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("malformed base64 in a hash") from error
