"""One certificate that the server may show: its chain, its key, and its authority's word that it still holds."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from triosmtp.tls.certificate import CertificateFacts, certificate_facts
from triosmtp.tls.ocsp import OCSPStaple, load_staple
from triosmtp.tls.pem import Files, PrivateKey, others_can_read, pem_certificates, pem_key, read_file
from triosmtp.tls.settings import Identity, MaterialError, MaterialErrors, MaterialWarning, Option

__all__ = ["IdentityMaterial", "KeyKind", "is_issued_by", "load_identities", "load_identity", "validity_warnings"]

KeyKind: TypeAlias = Literal["RSA", "ECDSA", "Ed25519", "Ed448"]
"""A context has room for one certificate of each kind."""

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@frozen(slots=True, kw_only=True, eq=False)
class IdentityMaterial:
    """An identity that was read and checked."""

    identity: Identity
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    """As the file has it and as it is sent: the leaf first."""
    key: PrivateKey = field(repr=False)
    staple: OCSPStaple | None = None
    leaf: CertificateFacts
    """Subject, names and validity of the certificate."""
    key_kind: KeyKind
    key_type: str
    """``RSA-2048``, ``P-256``, ``Ed25519``, …"""


def load_identities(
    identities: tuple[Identity, ...], files: Files, warnings: list[MaterialWarning]
) -> tuple[IdentityMaterial, ...]:
    """Read and check certificates that are to stand side by side.

    :raises MaterialError: for the first thing that cannot be used.
    """
    if not identities:
        raise MaterialError("TLS_Certificate", None, "names no certificate")
    parts = MaterialErrors()
    found = [parts.attempt(partial(load_identity, identity, files, warnings)) for identity in identities]
    parts.raise_any()
    loaded: dict[KeyKind, IdentityMaterial] = {}
    for identity, material in zip(identities, found, strict=True):
        assert material is not None
        other = loaded.setdefault(material.key_kind, material)
        if other is not material:
            reason = (
                f'has an {material.key_kind} key, as "{other.identity.certificate}" has: '
                "only certificates of different kinds of key can stand side by side"
            )
            raise MaterialError("TLS_Certificate", identity.certificate, reason)
    return tuple(loaded.values())


def _chain(certificate: Path, files: Files) -> tuple[x509.Certificate, ...]:
    chain = pem_certificates("TLS_Certificate", certificate, read_file("TLS_Certificate", certificate, files))
    _check_chain(certificate, chain)
    return chain


def _key(identity: Identity, files: Files, warnings: list[MaterialWarning]) -> PrivateKey:
    option, path = identity.key_place
    return pem_key(option, path, read_file(option, path, files), _password(identity, files, warnings))


def load_identity(identity: Identity, files: Files, warnings: list[MaterialWarning]) -> IdentityMaterial:
    """Read and check one certificate with all that belongs to it; what is not as it should be goes to ``warnings``.

    :raises MaterialError: for the first thing that cannot be used.
    """
    certificate = identity.certificate
    option, path = identity.key_place
    parts = MaterialErrors()
    chain = parts.attempt(partial(_chain, certificate, files))
    if chain is not None or path != certificate:  # else the same file would be told twice
        key = parts.attempt(partial(_key, identity, files, warnings))
    parts.raise_any()
    assert chain is not None
    assert key is not None
    public = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise MaterialError(option, path, f'the private key does not match the first certificate of "{certificate}"')
    if others_can_read(path):
        warnings.append(MaterialWarning(option, path, "holds a private key and can be read by every user"))
    warnings += validity_warnings("TLS_Certificate", certificate, chain)
    staple = None
    if identity.ocsp_response is not None:
        staple = load_staple(identity.ocsp_response, chain, files, warnings)
    kind, name = _key_type(key)
    return IdentityMaterial(
        identity=identity,
        chain=chain,
        key=key,
        staple=staple,
        leaf=certificate_facts(chain[0].public_bytes(Encoding.DER)),
        key_kind=kind,
        key_type=name,
    )


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` issued ``certificate``, by name and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_chain(path: Path, chain: tuple[x509.Certificate, ...]) -> None:
    """Ensure that each certificate was issued by the next one of the file, as TLS 1.2 wants it (RFC 5246, 7.4.2)."""
    for number, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        try:
            certificate.verify_directly_issued_by(issuer)
        except UnsupportedAlgorithm:
            continue  # the names fit, and nobody here can tell more
        except (ValueError, TypeError, InvalidSignature):
            name = certificate_facts(issuer.public_bytes(Encoding.DER)).subject
            reason = f'certificate {number} was not issued by the next one of the file, "{name}"'
            place = next((at for at, each in enumerate(chain, start=1) if is_issued_by(certificate, each)), None)
            if place is not None and place != number:
                reason += f": that is certificate {place}, which must stand right behind it"
            raise MaterialError("TLS_Certificate", path, reason) from None


def _password(identity: Identity, files: Files, warnings: list[MaterialWarning]) -> tuple[Path, bytes] | None:
    path = identity.password_file
    if path is None:
        return None
    if others_can_read(path):
        warning = MaterialWarning("TLS_Key_Password_File", path, "holds a password and can be read by every user")
        if warning not in warnings:
            warnings.append(warning)
    return path, read_file("TLS_Key_Password_File", path, files).strip()


def validity_warnings(
    option: Option, path: Path, certificates: tuple[x509.Certificate, ...]
) -> Iterator[MaterialWarning]:
    """Name the certificates that are out of their time."""
    now = datetime.now(UTC)
    for certificate in certificates:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if begin <= now <= end:
            continue
        subject = certificate_facts(certificate.public_bytes(Encoding.DER)).subject
        fault = f"expired on {end:%Y-%m-%d}" if now > end else f"is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        yield MaterialWarning(option, path, f'the certificate of "{subject}" {fault}')


def _key_type(key: PrivateKey) -> tuple[KeyKind, str]:
    match key:
        case rsa.RSAPrivateKey():
            return "RSA", f"RSA-{key.key_size}"
        case ec.EllipticCurvePrivateKey():
            return "ECDSA", _CURVES.get(key.curve.name, key.curve.name)
        case ed25519.Ed25519PrivateKey():
            return "Ed25519", "Ed25519"
        case _:
            return "Ed448", "Ed448"
