"""The kind of a public key that OpenSSL holds, by the SubjectPublicKeyInfo that it writes (RFC 5280, section 4.1.2.7).

pyOpenSSL tells the kind of a key by a number, which the newer kinds have not, and no curve.
"""

from typing import Final, Literal, TypeAlias

from attrs import frozen
from OpenSSL import crypto

from triosmtp.x509.der import OBJECT_IDENTIFIER, SEQUENCE, elements, sole_content
from triosmtp.x509.distinguished_name import dotted

__all__ = ["KeyKind", "PublicKey", "read_key"]

KeyKind: TypeAlias = Literal["RSA", "RSA-PSS", "ECDSA", "Ed25519", "Ed448", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]
"""A context holds one certificate of each kind."""

_ELLIPTIC: Final = bytes.fromhex("2a8648ce3d0201")
_KINDS: Final[dict[bytes, KeyKind]] = {
    bytes.fromhex("2a864886f70d010101"): "RSA",
    bytes.fromhex("2a864886f70d01010a"): "RSA-PSS",
    _ELLIPTIC: "ECDSA",
    bytes.fromhex("2b6570"): "Ed25519",
    bytes.fromhex("2b6571"): "Ed448",
    bytes.fromhex("608648016503040311"): "ML-DSA-44",
    bytes.fromhex("608648016503040312"): "ML-DSA-65",
    bytes.fromhex("608648016503040313"): "ML-DSA-87",
}
_DSA: Final = bytes.fromhex("2a8648ce380401")
_CURVES: Final = {
    bytes.fromhex("2a8648ce3d030107"): "P-256",
    bytes.fromhex("2b81040022"): "P-384",
    bytes.fromhex("2b81040023"): "P-521",
    bytes.fromhex("2b81040021"): "P-224",
    bytes.fromhex("2b8104000a"): "secp256k1",
    bytes.fromhex("2b2403030208010107"): "brainpoolP256r1",
    bytes.fromhex("2b240303020801010b"): "brainpoolP384r1",
    bytes.fromhex("2b240303020801010d"): "brainpoolP512r1",
    bytes.fromhex("2a811ccf5501822d"): "SM2",
}


@frozen(slots=True)
class PublicKey:
    """The kind and size of a key."""

    kind: KeyKind | None
    """None: of a kind that TLS servers do not use."""
    name: str
    """For display: ``RSA-2048``, ``P-256``, ``Ed25519``, …; a curve without a name here is its object identifier."""
    bits: int

    @property
    def is_weak(self) -> bool:
        """Whether it is one of RSA or DSA with less than 2048 bits."""
        return self.name.startswith(("RSA-", "DSA-")) and self.bits < 2048


def read_key(key: crypto.PKey) -> PublicKey:
    """Return kind and size of a key, or of the public half of a private one.

    :raises ValueError: if OpenSSL encodes it otherwise than RFC 5280 says.
    :raises OpenSSL.crypto.Error: if OpenSSL cannot encode it.
    """
    bits = key.bits()
    algorithm, _ = elements(sole_content(crypto.dump_publickey(crypto.FILETYPE_ASN1, key)))
    identifier, *parameters = elements(algorithm.require(SEQUENCE))
    number = identifier.require(OBJECT_IDENTIFIER)
    kind = _KINDS.get(number)
    if number == _DSA:
        return PublicKey(None, f"DSA-{bits}", bits)
    if kind in {"RSA", "RSA-PSS"}:
        return PublicKey(kind, f"{kind}-{bits}", bits)
    if number != _ELLIPTIC:
        return PublicKey(kind, kind or dotted(number), bits)
    if not parameters or parameters[0].tag != OBJECT_IDENTIFIER:
        return PublicKey(kind, "explicit EC parameters", bits)
    curve = parameters[0].content
    return PublicKey(kind, _CURVES.get(curve) or f"curve {dotted(curve)}", bits)
