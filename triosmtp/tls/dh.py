"""Diffie-Hellman parameters for the DHE suites of TLS 1.2: the groups of RFC 7919, or the operator's own file.

Without parameters OpenSSL offers no DHE suite at all.  The groups are computed as the RFC's appendix A defines them:
``p = 2^b - 2^(b-64) + (floor(2^(b-130) · e) + X) · 2^64 - 1``.  X is the least number that makes p a safe prime.
"""

from base64 import b64decode, encodebytes
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from triosmtp.tls.pem import Files, pem_blocks, read_file
from triosmtp.tls.settings import MaterialError, Option
from triosmtp.x509.der import INTEGER, SEQUENCE, element, elements, sole_content
from triosmtp.x509.public_key import PublicKey

__all__ = ["GROUPS", "group_for", "group_parameters", "load_parameters"]

GROUPS: Final = {2048: 560316, 3072: 2625351, 4096: 5736041}
"""X of RFC 7919 for each group's bits."""
_LEAST_BITS: Final = 2048
_OPTION: Final[Option] = "TLS_DHParams_File"


def group_for(keys: tuple[PublicKey, ...]) -> int:
    """Return the bits of the group that is no weaker than the weakest of the server's ``keys``, as far as there is one.

    SP 800-57 part 1, table 2: P-256 and RSA-3072 go with 3072, what is stronger with 4096 (and more, which is slow).
    """
    return min((_fitting(key) for key in keys), default=2048)


def _fitting(key: PublicKey) -> int:
    if key.kind in {"RSA", "RSA-PSS"}:
        return 2048 if key.bits < 3072 else 3072 if key.bits < 4096 else 4096
    return 4096 if key.kind == "ECDSA" and key.bits >= 384 else 3072


@cache
def group_parameters(bits: int) -> bytes:
    """Return the group ffdhe``bits`` in PEM."""
    prime = 2**bits - 2 ** (bits - 64) + (_scaled_e(bits - 130) + GROUPS[bits]) * 2**64 - 1
    return _pem(prime, 2)


def _scaled_e(bits: int) -> int:
    """Return floor(2^bits · e), by the series of 1/n! with 64 bits to spare."""
    term = total = 1 << (bits + 64)
    n = 1
    while term:
        term //= n
        total += term
        n += 1
    return total >> 64


def load_parameters(path: Path, files: Files) -> bytes:
    """Read the first Diffie-Hellman parameters of a PEM file, and return them in PEM.

    :raises MaterialError: if there are none, or their prime has less than 2048 bits.
    """
    for line, label, block in pem_blocks(_OPTION, path, read_file(_OPTION, path, files)):
        if not label.endswith(b"DH PARAMETERS"):
            continue
        try:
            prime, generator = _decoded(b64decode(b"".join(block.splitlines()[1:-1]), validate=True))
        except ValueError as error:
            reason = f"the parameters of line {line} cannot be parsed: {error}"
            raise MaterialError(_OPTION, path, reason) from None
        if prime.bit_length() < _LEAST_BITS:
            bits = f"{prime.bit_length()} bits, which is too weak: {_LEAST_BITS} are the least"
            raise MaterialError(_OPTION, path, f"the parameters of line {line} have {bits}")
        return _pem(prime, generator)
    raise MaterialError(_OPTION, path, "holds no Diffie-Hellman parameters")


def _decoded(der: bytes) -> tuple[int, int]:
    """Return prime and generator, which stand first in the forms of PKCS #3 and of X9.42.

    cryptography could do it, and warns that it will not for long.
    """
    prime, generator = (
        int.from_bytes(number.require(INTEGER), "big", signed=True) for number in islice(elements(sole_content(der)), 2)
    )
    if prime % 2 == 0 or not 1 < generator < prime:
        raise ValueError("not a prime and its generator")
    return prime, generator


def _pem(prime: int, generator: int) -> bytes:
    """Return the form of PKCS #3: a sequence of the two numbers."""
    numbers = element(INTEGER, _octets(prime)) + element(INTEGER, _octets(generator))
    lines = encodebytes(element(SEQUENCE, numbers))
    return b"-----BEGIN DH PARAMETERS-----\n" + lines + b"-----END DH PARAMETERS-----\n"


def _octets(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")  # one bit more than needed, for the sign
