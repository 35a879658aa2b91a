"""A certificate out of a file of the operator's, as OpenSSL holds it.

A certificate that OpenSSL accepts can be served.  cryptography refuses a whole certificate for one string that OpenSSL
accepts.  So kinds of keys, dates, names and signatures are read by OpenSSL.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from attrs import field, frozen
from OpenSSL import crypto

from triosmtp.x509.certificate import CertificateFacts, certificate_facts, suppress_warnings
from triosmtp.x509.error_queue import clear_errors, error_words
from triosmtp.x509.public_key import PublicKey, read_key

__all__ = ["LoadedCertificate"]

_VERSIONS: Final = frozenset({0, 1, 2})  # RFC 5280, section 4.1.2.1
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL does not name
_SIGNATURE_FAILURE: Final = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE


@frozen(slots=True, eq=False)
class LoadedCertificate:
    """A certificate that OpenSSL has parsed."""

    openssl: crypto.X509 = field(repr=False)
    der: bytes = field(repr=False)
    """As it is sent."""
    facts: CertificateFacts
    """For display, and its dates."""
    key: PublicKey | None
    """None: OpenSSL cannot use it."""

    @classmethod
    def of(cls, certificate: crypto.X509) -> "LoadedCertificate":
        """Take a certificate of OpenSSL's.

        :raises ValueError: if it is of a version that does not exist.
        """
        version = certificate.get_version()
        if version not in _VERSIONS:
            raise ValueError(f"there is no version {version + 1} of X.509")
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        key = None
        with suppress(ValueError, crypto.Error):
            key = read_key(certificate.get_pubkey())
        clear_errors()
        return cls(certificate, der, certificate_facts(der), key)

    @classmethod
    def from_der(cls, der: bytes) -> "LoadedCertificate":
        """Parse a certificate.

        :raises ValueError: if OpenSSL cannot parse it.
        """
        try:
            return cls.of(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
        except crypto.Error as error:
            raise ValueError(error_words(error)) from None

    @classmethod
    def from_pem(cls, block: bytes) -> "LoadedCertificate":
        """Parse one PEM block, ``CERTIFICATE`` or ``X509 CERTIFICATE``.

        :raises ValueError: if OpenSSL cannot parse it.
        """
        try:
            return cls.of(crypto.load_certificate(crypto.FILETYPE_PEM, block + b"\n"))
        except crypto.Error as error:
            raise ValueError(error_words(error)) from None

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return crypto.dump_certificate(crypto.FILETYPE_PEM, self.openssl)

    @property
    def subject(self) -> str:
        """The subject, for display."""
        return self.facts.subject or "without a subject"

    @property
    def is_self_issued(self) -> bool:
        """Whether subject and issuer are the same name, as those of roots are."""
        with suppress_warnings():
            return self.openssl.get_subject() == self.openssl.get_issuer()

    def key_name(self) -> str:
        """Return kind and size of the key for display, ``unknown`` if OpenSSL cannot use it."""
        return "unknown" if self.key is None else self.key.name

    def validity_fault(self, now: datetime | None = None) -> str | None:
        """Return why the certificate is not valid at a time; None if it is valid."""
        now = now or datetime.now(UTC)
        begin, end = self.facts.not_before, self.facts.not_after
        if begin is None or end is None:
            return "has no dates of validity that can be read"
        if now > end:
            return f"expired on {end:%Y-%m-%d}"
        return f"is not valid before {begin:%Y-%m-%d %H:%M} UTC" if now < begin else None

    def is_issued_by(self, issuer: "LoadedCertificate") -> bool:
        """Return whether the names fit, and the signature is not one that ``issuer`` did not make.

        OpenSSL does not look at a signature if it would refuse the issuer anyway, for its usage or its kind of key.
        Then the names decide.
        """
        with suppress_warnings():
            if self.openssl.get_issuer() != issuer.openssl.get_subject():
                return False
            store = crypto.X509Store()
            store.add_cert(issuer.openssl)
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _NO_CHECK_TIME)
            try:
                crypto.X509StoreContext(store, self.openssl).verify_certificate()
            except crypto.X509StoreContextError as error:
                return bool(error.errors[0] != _SIGNATURE_FAILURE)
            finally:
                clear_errors()
        return True
