"""What can be said of a certificate chain as clients will see it: its order, what is missing, names, DANE records.

For the commands alone; the server needs none of it.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import frozen
from OpenSSL import crypto

from triosmtp.errors import Severity
from triosmtp.x509.certificate import certificate_facts, extensions_of, suppress_warnings
from triosmtp.x509.der import OBJECT_IDENTIFIER, SEQUENCE, elements, sole_content
from triosmtp.x509.error_queue import clear_errors, error_words
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.signature import signature_digest

__all__ = [
    "Authorities", "Finding", "chain_findings", "key_type", "load_authorities", "tlsa_data", "tlsa_data_of_pem",
]  # fmt: skip

_SOON: Final = timedelta(days=14)
_WEAK_DIGESTS: Final = frozenset({"md5", "sha1"})
_ACCESS: Final = bytes.fromhex("2b06010505070101")  # 1.3.6.1.5.5.7.1.1, authorityInfoAccess
_CA_ISSUERS: Final = bytes.fromhex("2b06010505073002")  # 1.3.6.1.5.5.7.48.2
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

    severity: Severity
    text: str


@frozen(slots=True)
class Authorities:
    """Certificates of authorities by subject, and whether a client knows no others."""

    by_subject: dict[int, tuple[LoadedCertificate, ...]]
    """By OpenSSL's hash of the subject."""
    complete: bool = False

    @classmethod
    def of(cls, certificates: Sequence[LoadedCertificate], *, complete: bool = False) -> "Authorities":
        """Sort certificates by subject."""
        found: dict[int, tuple[LoadedCertificate, ...]] = {}
        for certificate in certificates:
            key = certificate.openssl.subject_name_hash()
            found[key] = (*found.get(key, ()), certificate)
        return cls(found, complete)

    def joined_by(self, certificates: Sequence[LoadedCertificate]) -> "Authorities":
        """Return these and others together."""
        ours = [each for named in self.by_subject.values() for each in named]
        return Authorities.of([*ours, *certificates], complete=self.complete)

    def issuer_of(self, certificate: LoadedCertificate) -> LoadedCertificate | None:
        """Return the authority that signed ``certificate``."""
        with suppress_warnings():
            named = self.by_subject.get(certificate.openssl.get_issuer().hash(), ())
        return next((each for each in named if certificate.is_issued_by(each)), None)


def load_authorities(path: Path | None = None) -> tuple[LoadedCertificate, ...]:
    """Read a PEM bundle of authorities, by default the system's; nothing if the system has none.  Blocking.

    The system's is where ``$SSL_CERT_FILE`` says, as OpenSSL takes it, else in the usual places.

    :raises OSError: if ``path`` cannot be read.
    :raises ValueError: if it holds no certificate.
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


def _certificates(data: bytes) -> tuple[LoadedCertificate, ...]:
    """Return what can be parsed of a bundle: in the system's own there are odd old roots."""
    found = []
    for block in _CERTIFICATE.findall(data):
        with suppress(ValueError):
            found.append(LoadedCertificate.from_pem(block))
    return tuple(found)


def key_type(der: bytes) -> str:
    """Return kind and size of a certificate's key: ``RSA-2048``, ``P-256``, …; ``unknown`` if it cannot be read."""
    try:
        return LoadedCertificate.from_der(der).key_name()
    except ValueError:
        return "unknown"


def tlsa_data(der: bytes) -> str:
    """Return the data of a TLSA record 3 1 1 (DANE-EE, public key, SHA-256: RFC 7672, section 3.1.1).

    :raises ValueError: if OpenSSL cannot use the certificate's key.
    """
    digest = certificate_facts(der).spki_sha256
    if digest is None:
        raise ValueError("the public key of the certificate cannot be read")
    return f"3 1 1 {digest}"


def tlsa_data_of_pem(data: bytes) -> str:
    """Return the data of the TLSA record 3 1 1 for the key in a PEM file: private, public, or that of a certificate.

    :raises ValueError: if it holds none of them, or an encrypted private key.
    """
    if b"-----BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY-----" not in data:
        return tlsa_data(LoadedCertificate.from_pem(data[data.index(b"-----BEGIN CERTIFICATE-----") :]).der)
    if b"ENCRYPTED" in data:
        raise ValueError("the private key is encrypted: give its public key, or its certificate")
    try:
        if b"PRIVATE KEY-----" in data:
            key = crypto.load_privatekey(crypto.FILETYPE_PEM, data[_begin_of_private_key(data) :], b"")
        else:
            key = crypto.load_publickey(crypto.FILETYPE_PEM, data)
        encoded = crypto.dump_publickey(crypto.FILETYPE_ASN1, key)
    except crypto.Error as error:
        raise ValueError(error_words(error)) from None
    finally:
        clear_errors()
    return f"3 1 1 {hashlib.sha256(encoded).hexdigest()}"


def _begin_of_private_key(data: bytes) -> int:
    """Return the beginning of the first block that holds a private key: OpenSSL writes EC PARAMETERS before it."""
    return data.rindex(b"-----BEGIN ", 0, data.index(b"PRIVATE KEY-----") + 1)


def chain_findings(chain: Sequence[LoadedCertificate], known: Authorities) -> Iterator[Finding]:
    """Yield what is wrong with a chain as it is sent, the leaf first; ``known`` are authorities that clients have."""
    for number, certificate in enumerate(chain, 1):
        yield from _weaknesses(certificate, number)
    yield from _completeness(chain, known)


def _weaknesses(certificate: LoadedCertificate, number: int) -> Iterator[Finding]:
    name = f"certificate {number} ({certificate.subject})"
    end = certificate.facts.not_after
    if end is not None and timedelta(0) < end - datetime.now(UTC) < _SOON:
        yield Finding(Severity.WARNING, f"{name} expires on {end:%Y-%m-%d}")
    digest = signature_digest(certificate.openssl)
    if digest in _WEAK_DIGESTS and not certificate.is_self_issued:
        yield Finding(Severity.ERROR, f"{name} has a weak signature: {digest.upper()}")
    if certificate.key is not None and certificate.key.is_weak:
        yield Finding(Severity.ERROR, f"{name} has a weak key: {certificate.key.name}")


def _completeness(chain: Sequence[LoadedCertificate], known: Authorities) -> Iterator[Finding]:
    last = chain[-1]
    if last.is_self_issued:
        if last is not chain[0]:
            yield Finding(
                Severity.WARNING, f"the root ({last.subject}) need not be sent: clients have it or do not trust it"
            )
        return
    issuer = known.issuer_of(last)
    if issuer is not None and issuer.is_self_issued:
        return
    name = last.facts.issuer
    if issuer is not None or known.complete or _names_its_issuer(last):
        yield Finding(
            Severity.ERROR, f"an intermediate is missing: the chain ends below {name}, and clients will not have that"
        )
    else:
        text = f"the chain ends below {name}, no authority of this system: if that is an intermediate, it is missing"
        yield Finding(Severity.WARNING, text)


def _names_its_issuer(certificate: LoadedCertificate) -> bool:
    """Return whether it names a URL of its issuer's certificate: public authorities write that for intermediates."""
    with suppress(ValueError), suppress_warnings():
        for kind, value in extensions_of(certificate.openssl):
            if kind == _ACCESS:
                entries = (next(elements(each.require(SEQUENCE))) for each in elements(sole_content(value)))
                return any(each.require(OBJECT_IDENTIFIER) == _CA_ISSUERS for each in entries)
    return False
