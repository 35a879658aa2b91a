r"""The facts of a certificate, from its DER: every field guarded on its own, every string made fit to be shown.

A client writes its certificate itself.  cryptography's accessors are lazy and raise on a malformed field, and neither
they nor RFC 4514 keep CR, LF or NUL out of a string that ends up in a log line or a header.  So here: a field that
cannot be read is None, and the others are there all the same; a character that is not printable becomes ``\XX``, its
UTF-8 octets in hexadecimal (RFC 4514, section 2.4, allows that form everywhere); and lengths are bounded.

Hexadecimal is lower-case without colons, as ``openssl dgst`` and ``sha256sum`` print it; what ``openssl x509
-fingerprint -sha256`` prints becomes that by ``tr -d : | tr A-F a-f``.
"""

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "CertificateFacts",
    "certificate_facts",
    "der_content",
    "distinguished_name",
    "printable",
    "public_key_info",
    "unwarned",
]

_MAX_NAME: Final = 1024  # characters of a distinguished name
_MAX_TEXT: Final = 256  # characters of one common name or alternative name
_MAX_SANS: Final = 100
_MAX_CACHED: Final = 8192  # octets of DER: the cache must not hold what a hostile client makes big
_CUT: Final = "…"  # ends what was cut off: no honest name ends so

_ATTRIBUTES: Final = {
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
}
"""OpenSSL's short names, for attributes that RFC 4514 has no name for and that are common all the same."""

T = TypeVar("T")


@frozen(slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says of itself.  None, or empty: absent or unreadable."""

    fingerprint_sha256: str
    spki_sha256: str | None = None
    """SHA-256 of the SubjectPublicKeyInfo as it was encoded (RFC 7469's and DANE's 3 1 1 form)."""
    subject: str | None = None
    issuer: str | None = None
    subject_cn: str | None = None
    issuer_cn: str | None = None
    serial: str | None = None
    sans: tuple[str, ...] = ()
    """``dns:…``, ``email:…``, ``ip:…``, ``uri:…``; a comma or backslash within is escaped like a character that is
    not printable, so that a list of them can be parted at its commas."""
    eku: str | None = None
    """See :attr:`triosmtp.TLSInfo.client_eku`."""
    not_before: datetime | None = None
    not_after: datetime | None = None


def certificate_facts(der: bytes) -> CertificateFacts:
    """Give the facts of one certificate.  Never raises, whatever ``der`` holds.

    The same certificates come again and again: the latest are remembered.
    """
    return _remembered(der) if len(der) <= _MAX_CACHED else _read(der)


def printable(text: str, limit: int = _MAX_TEXT, *, escape: str = "") -> str:
    """Make ``text`` fit for logs, headers and variables; the characters of ``escape`` are escaped, too."""
    if len(text) > limit:
        text = text[:limit] + _CUT
    if text.isprintable() and not any(character in text for character in escape):
        return text
    return "".join(c if c.isprintable() and c not in escape else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


_warnings_lock = threading.Lock()  # the filters of warnings belong to the whole process


@contextmanager
def unwarned() -> Iterator[None]:
    """Keep quiet what cryptography warns of: names that are too long, serials that are not above zero."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(der: bytes) -> CertificateFacts:
    with unwarned():
        return _read_fields(der)


def _read_fields(der: bytes) -> CertificateFacts:
    fingerprint = hashlib.sha256(der).hexdigest()
    spki = _guarded(lambda: hashlib.sha256(public_key_info(der)).hexdigest())
    certificate = _guarded(lambda: x509.load_der_x509_certificate(der))
    if certificate is None:
        return CertificateFacts(fingerprint_sha256=fingerprint, spki_sha256=spki)
    subject = _guarded(lambda: certificate.subject)
    issuer = _guarded(lambda: certificate.issuer)
    return CertificateFacts(
        fingerprint_sha256=fingerprint,
        spki_sha256=spki,
        subject=None if subject is None else _guarded(lambda: distinguished_name(subject)),
        issuer=None if issuer is None else _guarded(lambda: distinguished_name(issuer)),
        subject_cn=None if subject is None else _guarded(lambda: _common_name(subject)),
        issuer_cn=None if issuer is None else _guarded(lambda: _common_name(issuer)),
        serial=_guarded(lambda: _hexadecimal(certificate.serial_number)),
        sans=_guarded(lambda: _alternative_names(certificate)) or (),
        eku=_guarded(lambda: _extended_key_usage(certificate)),
        not_before=_guarded(lambda: certificate.not_valid_before_utc),
        not_after=_guarded(lambda: certificate.not_valid_after_utc),
    )


_remembered = lru_cache(maxsize=512)(_read)


def _guarded(field: Callable[[], T]) -> T | None:
    """Read one field; None where it is malformed."""
    with suppress(Exception):
        return field()
    return None


def distinguished_name(name: x509.Name) -> str:
    """Give a name in the form of RFC 4514: the most specific part first."""
    return printable(name.rfc4514_string(_ATTRIBUTES), _MAX_NAME)


def _common_name(name: x509.Name) -> str | None:
    """Give the last CN, the most specific one, as OpenSSL and Postfix do."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not found:
        return None
    value = found[-1].value
    return printable(value if isinstance(value, str) else value.hex())


def _hexadecimal(serial: int) -> str:
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + "0" * (len(digits) % 2) + digits


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    result: list[str] = []
    for name in names:
        if len(result) == _MAX_SANS:
            result.append(_CUT)
            break
        match name:
            case x509.DNSName():
                kind, value = "dns", name.value
            case x509.RFC822Name():
                kind, value = "email", name.value
            case x509.IPAddress():
                kind, value = "ip", str(name.value)
            case x509.UniformResourceIdentifier():
                kind, value = "uri", name.value
            case _:
                continue
        result.append(f"{kind}:{printable(value, escape=',' + chr(92))}")
    return tuple(result)


def _extended_key_usage(certificate: x509.Certificate) -> str | None:
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH in usages, ExtendedKeyUsageOID.SERVER_AUTH in usages
    if client and server:
        return "both"
    if client or server:
        return "client" if client else "server"
    return "any" if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages else "none"


def public_key_info(der: bytes) -> bytes:
    """Cut the SubjectPublicKeyInfo out of a certificate, as it was encoded (RFC 5280, section 4.1).

    :raises ValueError: where ``der`` does not have the shape of a certificate.
    """
    start, end = der_content(der, 0)  # Certificate
    start, end = der_content(der, start)  # TBSCertificate
    if der[start : start + 1] == b"\xa0":  # version
        start = der_content(der, start)[1]
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        start = der_content(der, start)[1]
    stop = der_content(der, start)[1]
    if stop > end:
        raise ValueError("the public key lies outside of the certificate")
    return der[start:stop]


def der_content(der: bytes, at: int) -> tuple[int, int]:
    """Give where the content of the DER element at ``at`` begins and ends."""
    if at + 2 > len(der):
        raise ValueError("cut off")
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or begin + octets > len(der):
            raise ValueError("not a DER length")
        size, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
    if begin + size > len(der):
        raise ValueError("cut off")
    return begin, begin + size
