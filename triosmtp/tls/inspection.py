"""What can be said of a certificate chain as clients will see it: its order, what is missing, names, DANE records.

For the commands alone; the server needs none of it.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID

from triosmtp.domain import DomainError, pattern_key
from triosmtp.tls.certificate import certificate_facts
from triosmtp.tls.identity import is_issued_by

__all__ = [
    "Authorities", "Finding", "chain_findings", "key_type", "load_authorities", "matches_name", "tlsa_data",
    "tlsa_data_of_pem",
]  # fmt: skip

_SOON: Final = timedelta(days=14)
_WEAK_DIGESTS: Final = frozenset({"md5", "sha1"})
_LEAST_RSA: Final = 2048
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSDs
)


@frozen(slots=True)
class Finding:
    """One thing that a client may stumble over."""

    severity: Literal["error", "warning"]
    text: str


@frozen(slots=True)
class Authorities:
    """Certificates of authorities by subject, and whether a client knows no others."""

    by_subject: dict[x509.Name, tuple[x509.Certificate, ...]]
    complete: bool = False

    @classmethod
    def of(cls, certificates: Sequence[x509.Certificate], *, complete: bool = False) -> "Authorities":
        """Sort certificates by subject."""
        found: dict[x509.Name, tuple[x509.Certificate, ...]] = {}
        for certificate in certificates:
            with suppress(ValueError):  # a malformed name finds no issuer
                found[certificate.subject] = (*found.get(certificate.subject, ()), certificate)
        return cls(found, complete)

    def joined_by(self, certificates: Sequence[x509.Certificate]) -> "Authorities":
        """Give these and others together."""
        ours = [each for named in self.by_subject.values() for each in named]
        return Authorities.of([*ours, *certificates], complete=self.complete)

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Give the authority that signed ``certificate``."""
        named = self.by_subject.get(certificate.issuer, ())
        return next((each for each in named if is_issued_by(certificate, each)), None)


def load_authorities(path: Path | None = None) -> tuple[x509.Certificate, ...]:
    """Read a PEM bundle of authorities, by default the system's; nothing where the system has none.  Blocking.

    The system's is where ``$SSL_CERT_FILE`` says, as OpenSSL takes it, else in the usual places.

    :raises OSError: where ``path`` cannot be read.
    :raises ValueError: where it holds no certificate.
    """
    if path is not None:
        certificates = _certificates(path.read_bytes())
        if not certificates:
            raise ValueError("holds no certificate")
        return certificates
    given = os.environ.get("SSL_CERT_FILE")
    for bundle in map(Path, [given] if given else _SYSTEM_BUNDLES):
        with suppress(OSError):
            return _certificates(bundle.read_bytes())
    return ()


def _certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """Give what can be parsed of a bundle: in the system's own there are odd old roots."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in _CERTIFICATE.findall(data):
            with suppress(ValueError):
                found.append(x509.load_pem_x509_certificate(block))
    return tuple(found)


def key_type(certificate: x509.Certificate) -> str:
    """Give kind and size of a certificate's key: ``RSA-2048``, ``P-256``, …; ``unknown`` where it cannot be read."""
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "unknown"
    match key:
        case rsa.RSAPublicKey():
            return f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return _CURVES.get(key.curve.name, key.curve.name)
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case dsa.DSAPublicKey():
            return f"DSA-{key.key_size}"
        case _:
            return "unknown"


def matches_name(der: bytes, host: str) -> bool:
    """Whether a certificate is for ``host``: by its DNS names alone (RFC 9525), a wildcard for the left-most label."""
    names = [name[4:] for name in certificate_facts(der, every_name=True).sans if name.startswith("dns:")]
    keys = {_pattern(name) for name in names if name.isascii()}
    key = _pattern(host.removesuffix("."))
    above = (key or "").partition(".")[2]
    return key is not None and (key in keys or (bool(above) and f"*.{above}" in keys))


def _pattern(name: str) -> str | None:
    try:
        return pattern_key(name)
    except DomainError:
        return None


def tlsa_data(der: bytes) -> str:
    """Return the data of a TLSA record 3 1 1 (DANE-EE, public key, SHA-256: RFC 7672, section 3.1.1).

    :raises ValueError: if OpenSSL cannot use the certificate's key.
    """
    digest = certificate_facts(der).spki_sha256
    if digest is None:
        raise ValueError("the public key of the certificate cannot be read")
    return f"3 1 1 {digest}"


def tlsa_data_of_pem(data: bytes) -> str:
    """Give the data of the TLSA record 3 1 1 for the key in a PEM file: private, public, or that of a certificate.

    :raises ValueError: where it holds none of them, or an encrypted private key.
    """
    if b"-----BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY-----" not in data:
        return tlsa_data(_der(x509.load_pem_x509_certificate(data)))
    try:
        if b"PRIVATE KEY-----" in data:
            public = load_pem_private_key(data[_begin_of_private_key(data) :], None).public_key()
        else:
            public = load_pem_public_key(data)
    except TypeError:
        raise ValueError("the private key is encrypted: give its public key, or its certificate") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"3 1 1 {hashlib.sha256(encoded).hexdigest()}"


def _begin_of_private_key(data: bytes) -> int:
    """Give where the first block that holds a private key begins: OpenSSL writes EC PARAMETERS before it."""
    return data.rindex(b"-----BEGIN ", 0, data.index(b"PRIVATE KEY-----") + 1)


def chain_findings(chain: Sequence[x509.Certificate], known: Authorities) -> Iterator[Finding]:
    """Tell what is wrong with a chain as it is sent, the leaf first; ``known`` are authorities that clients have."""
    for number, certificate in enumerate(chain, 1):
        yield from _weaknesses(certificate, number)
    yield from _completeness(chain, known)


def _weaknesses(certificate: x509.Certificate, number: int) -> Iterator[Finding]:
    name = f"certificate {number} ({_subject(certificate)})"
    remaining = certificate.not_valid_after_utc - datetime.now(UTC)
    if timedelta(0) < remaining < _SOON:
        yield Finding("warning", f"{name} expires on {certificate.not_valid_after_utc:%Y-%m-%d}")
    with suppress(UnsupportedAlgorithm):
        digest = certificate.signature_hash_algorithm
        if digest is not None and digest.name in _WEAK_DIGESTS and not _is_self_issued(certificate):
            yield Finding("error", f"{name} has a weak signature: {digest.name.upper()}")
    kind = key_type(certificate)
    if kind.startswith(("RSA-", "DSA-")) and int(kind[4:]) < _LEAST_RSA:
        yield Finding("error", f"{name} has a weak key: {kind}")


def _completeness(chain: Sequence[x509.Certificate], known: Authorities) -> Iterator[Finding]:
    last = chain[-1]
    if _is_self_issued(last):
        if last is not chain[0]:
            yield Finding(
                "warning", f"the root ({_subject(last)}) need not be sent: clients have it or do not trust it"
            )
        return
    issuer = known.issuer_of(last)
    if issuer is not None and _is_self_issued(issuer):
        return
    name = certificate_facts(_der(last)).issuer
    if issuer is not None or known.complete or _names_its_issuer(last):
        yield Finding(
            "error", f"an intermediate is missing: the chain ends below {name}, and clients will not have that"
        )
    else:
        text = f"the chain ends below {name}, no authority of this system: if that is an intermediate, it is missing"
        yield Finding("warning", text)


def _names_its_issuer(certificate: x509.Certificate) -> bool:
    """Whether it says where its issuer's can be fetched: public authorities write that for intermediates."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(entry.access_method == AuthorityInformationAccessOID.CA_ISSUERS for entry in access)


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _subject(certificate: x509.Certificate) -> str:
    return certificate_facts(_der(certificate)).subject or "without a subject"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
