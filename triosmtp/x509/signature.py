"""Which hash a certificate's signature is made over."""

import re
from typing import Final

from OpenSSL import crypto

from triosmtp.x509.der import OBJECT_IDENTIFIER, SEQUENCE, elements, sole_content

__all__ = ["DIGESTS", "signature_digest"]

_VERSION: Final = 0xA0
_HASH_ALGORITHM: Final = 0xA0  # the explicit tag of RSASSA-PSS-params (RFC 4055, section 3.1)
_PSS: Final = b"rsassaPss"
DIGESTS: Final = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
    bytes.fromhex("608648016503040204"): "sha224",
}
"""Names of hashes by their object identifiers."""
_NAMED: Final = re.compile("md5|sha3-[0-9]{3}|sha512-[0-9]{3}|sha[0-9]{1,3}").search


def signature_digest(certificate: crypto.X509) -> str | None:
    """Return the name of the hash, as :mod:`hashlib` writes it; None if the algorithm has none of its own (Ed25519).

    Also None if it is none that is known here.
    """
    name = certificate.get_signature_algorithm()
    if name == _PSS:
        try:
            return _pss_digest(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
        except ValueError:
            return None
    found = _NAMED(name.decode("ascii", "replace").lower())
    return found[0].replace("-", "_") if found else None


def _pss_digest(der: bytes) -> str | None:
    part, _, _ = elements(sole_content(der))
    fields = list(elements(part.require(SEQUENCE)))
    _, parameters = elements(fields[2 if fields[0].tag == _VERSION else 1].require(SEQUENCE))
    for parameter in elements(parameters.require(SEQUENCE)):
        if parameter.tag == _HASH_ALGORITHM:
            identifier, *_ = elements(sole_content(parameter.content))
            return DIGESTS.get(identifier.require(OBJECT_IDENTIFIER))
    return "sha1"
