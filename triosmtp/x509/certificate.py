r"""The facts of a certificate, as OpenSSL reads it: each field separately, and each string escaped for display.

A client writes its certificate itself, and OpenSSL did the handshake with it.  Another parser may read
something else in it: a key other than the one that the handshake proved, or a name that no authority checked.  So every
field is read from OpenSSL's own object.  Two things have no public call: the types of strings, and the alternative
names.  :mod:`.der` reads them.  It accepts only encodings with one reading, and the result must agree with what OpenSSL
reports.

A field that cannot be read so is None, and the others are there all the same.  A character that is not printable
becomes ``\XX``, its UTF-8 octets in hexadecimal (RFC 4514, section 2.4, allows that form everywhere); and lengths are
bounded.

Hexadecimal is lower-case without colons, as ``openssl dgst`` and ``sha256sum`` print it; what ``openssl x509
-fingerprint -sha256`` prints becomes that by ``tr -d : | tr A-F a-f``.
"""

import hashlib
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, TypeVar

from attrs import frozen
from OpenSSL import crypto

from triosmtp.x509.der import (
    BOOLEAN,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    Element,
    elements,
    sole_content,
)
from triosmtp.x509.distinguished_name import CUT, MAX_TEXT, DistinguishedName, printable, read_name
from triosmtp.x509.error_queue import clear_errors

__all__ = ["CertificateFacts", "certificate_facts", "extensions_of", "key_digest", "printable", "suppress_warnings"]

_MAX_SANS: Final = 100
_MAX_CLAIMED: Final = 8192  # octets of alternative names that are read if nobody vouches for them
_MAX_EXTENSIONS: Final = 256
_MAX_SERIAL_BITS: Final = 64 * 8  # RFC 5280 allows 20 octets
_MAX_CACHED: Final = 8192  # octets of DER: the cache must not hold what a hostile client makes big

_VERSION, _EXTENSIONS = 0xA0, 0xA3  # the explicit tags of a TBSCertificate (RFC 5280, section 4.1)
_UNIQUE_IDS: Final = frozenset({0x81, 0x82})
_ALTERNATIVE_NAME: Final = bytes.fromhex("551d11")  # 2.5.29.17
_EXTENDED_USAGE: Final = bytes.fromhex("551d25")  # 2.5.29.37
_SERVER_AUTH, _CLIENT_AUTH = bytes.fromhex("2b06010505070301"), bytes.fromhex("2b06010505070302")
_ANY_USAGE: Final = bytes.fromhex("551d2500")
_TEXTS: Final = {0x81: "email", 0x82: "dns", 0x86: "uri"}
_ADDRESS: Final = 0x87
_READ_NAMES: Final = re.compile(rb"\n +X509v3 Subject Alternative Name:[^\n]*\n +[A-Za-z]").search
_TIME: Final = re.compile(rb"[0-9]{14}Z").fullmatch

T = TypeVar("T")


@frozen(slots=True, kw_only=True)
class CertificateFacts:
    """The fields of a certificate.  None, or empty: absent or unreadable."""

    fingerprint_sha256: str
    spki_sha256: str | None = None
    """SHA-256 of the SubjectPublicKeyInfo as OpenSSL encodes the key (RFC 7469's and DANE's 3 1 1 form)."""
    subject: str | None = None
    issuer: str | None = None
    subject_cn: str | None = None
    issuer_cn: str | None = None
    serial: str | None = None
    sans: tuple[str, ...] = ()
    """``dns:…``, ``email:…``, ``ip:…``, ``uri:…``.  A comma, a backslash or an octet that is no printable ASCII is
    written ``\\XX``.  So a list of them can be split at its commas, and no two names look the same."""
    eku: str | None = None
    """See :attr:`triosmtp.TLSInfo.client_eku`."""
    not_before: datetime | None = None
    not_after: datetime | None = None


def certificate_facts(der: bytes, *, every_name: bool = False) -> CertificateFacts:
    """Return the facts of one certificate.  Never raises.

    With ``every_name``, for decisions, the alternative names are complete.  Otherwise there are the first 100,
    shortened if they are long, and ``…`` if there are more; or none if they take more than 8 KB.  That is for display,
    and for unverified certificates: their owners must not choose the cost.

    The same certificates come often, so the latest are cached.
    """
    return _remembered(der, every_name) if len(der) <= _MAX_CACHED else _read(der, every_name)


_warnings_lock = threading.RLock()  # the filters of warnings belong to the whole process


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Keep quiet what the libraries warn of: odd serials and long names, and pyOpenSSL's names, which are to go."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(der: bytes, every_name: bool) -> CertificateFacts:
    try:
        with suppress_warnings():
            return _read_fields(der, every_name)
    finally:
        clear_errors()  # of fields that OpenSSL could not read, though it raised nothing


_remembered = lru_cache(maxsize=512)(_read)


def _read_fields(der: bytes, every_name: bool) -> CertificateFacts:
    fingerprint = hashlib.sha256(der).hexdigest()
    certificate = _guarded(lambda: crypto.load_certificate(crypto.FILETYPE_ASN1, der))
    if certificate is None:
        return CertificateFacts(fingerprint_sha256=fingerprint)
    subject = _guarded(lambda: read_name(certificate.get_subject()))
    issuer = _guarded(lambda: read_name(certificate.get_issuer()))
    return CertificateFacts(
        fingerprint_sha256=fingerprint,
        spki_sha256=_guarded(lambda: key_digest(certificate)),
        subject=_of_name(subject, DistinguishedName.text),
        issuer=_of_name(issuer, DistinguishedName.text),
        subject_cn=_of_name(subject, DistinguishedName.common_name),
        issuer_cn=_of_name(issuer, DistinguishedName.common_name),
        serial=_guarded(lambda: _hexadecimal(certificate.get_serial_number())),
        sans=_guarded(lambda: _alternative_names(certificate, every_name)) or (),
        eku=_guarded(lambda: _extended_key_usage(certificate)),
        not_before=_guarded(lambda: _moment(certificate.get_notBefore())),
        not_after=_guarded(lambda: _moment(certificate.get_notAfter())),
    )


def _guarded(field: Callable[[], T]) -> T | None:
    """Read one field; None if it is malformed."""
    with suppress(Exception):
        return field()
    return None


def _of_name(name: DistinguishedName | None, field: Callable[[DistinguishedName], str | None]) -> str | None:
    return None if name is None else _guarded(lambda: field(name))


def key_digest(certificate: crypto.X509) -> str:
    """Return the SHA-256 of the certificate's public key, as a SubjectPublicKeyInfo, in hexadecimal.

    :raises OpenSSL.crypto.Error: if OpenSSL cannot use the key.
    """
    return hashlib.sha256(crypto.dump_publickey(crypto.FILETYPE_ASN1, certificate.get_pubkey())).hexdigest()


def _hexadecimal(serial: int) -> str:
    if serial.bit_length() > _MAX_SERIAL_BITS:
        raise ValueError("too long")
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + "0" * (len(digits) % 2) + digits


def _moment(time: bytes | None) -> datetime:
    if time is None or not _TIME(time):
        raise ValueError("not a time in UTC")
    return datetime.strptime(time.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def extensions_of(certificate: crypto.X509) -> tuple[tuple[bytes, bytes], ...]:
    """Return the object identifier and the content of each extension, both as octets, in their order.

    pyOpenSSL has no call for them.  So the certificate is read here, and counts if it is strict DER and if serial
    number, issuer, subject and the number of extensions are what OpenSSL reads.

    :raises ValueError: if it does not count, or has very many extensions.
    """
    part, _, _ = elements(sole_content(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)))
    fields = list(elements(part.require(SEQUENCE)))
    if fields[0].tag == _VERSION:
        del fields[0]
    serial, _, issuer, _, subject, _, *rest = fields
    if (
        int.from_bytes(serial.require(INTEGER), "big", signed=True) != certificate.get_serial_number()
        or issuer.encoded != certificate.get_issuer().der()
        or subject.encoded != certificate.get_subject().der()
    ):
        raise ValueError("OpenSSL reads it otherwise")
    rest = [field for field in rest if field.tag not in _UNIQUE_IDS]
    count = certificate.get_extension_count()
    if count > _MAX_EXTENSIONS:
        raise ValueError("too many extensions")
    if not rest:
        found: list[Element] = []
    else:
        (explicit,) = rest
        found = list(elements(sole_content(explicit.require(_EXTENSIONS))))
    if len(found) != count:
        raise ValueError("OpenSSL reads it otherwise")
    return tuple(map(_extension, found))


def _extension(element: Element) -> tuple[bytes, bytes]:
    kind, *criticality, value = elements(element.require(SEQUENCE))
    if len(criticality) > 1 or any(each.tag != BOOLEAN for each in criticality):
        raise ValueError("not an extension")
    return kind.require(OBJECT_IDENTIFIER), value.require(OCTET_STRING)


def _alternative_names(certificate: crypto.X509, every_name: bool) -> tuple[str, ...]:
    found = [value for kind, value in extensions_of(certificate) if kind == _ALTERNATIVE_NAME]
    if not found:
        return ()
    (extension,) = found  # twice: then OpenSSL has none of them
    if len(extension) > _MAX_CLAIMED and not every_name:
        raise ValueError("too many names")
    names = list(elements(sole_content(extension)))
    if any(name.tag not in _TEXTS and name.tag != _ADDRESS for name in names) and not _names_are_read(certificate):
        raise ValueError("OpenSSL cannot read them")
    result: list[str] = []
    for name in names:
        if len(result) == _MAX_SANS and not every_name:
            result.append(CUT)
            break
        shown = _alternative_name(name, every_name)
        if shown is not None:
            result.append(shown)
    return tuple(result)


def _extended_key_usage(certificate: crypto.X509) -> str | None:
    found = [value for kind, value in extensions_of(certificate) if kind == _EXTENDED_USAGE]
    if not found:
        return None
    (extension,) = found  # twice: then OpenSSL has none of them
    usages = {each.require(OBJECT_IDENTIFIER) for each in elements(sole_content(extension))}
    client, server = _CLIENT_AUTH in usages, _SERVER_AUTH in usages
    if client and server:
        return "both"
    if client or server:
        return "client" if client else "server"
    return "any" if _ANY_USAGE in usages else "none"


def _names_are_read(certificate: crypto.X509) -> bool:
    """Return whether OpenSSL can read the alternative names: if one is malformed inside, it has none of them.

    Those that are shown here are strings of any octets.  Whether the others are in order, only OpenSSL knows; of what
    it cannot read it prints the octets, the first of which is the 0 of a SEQUENCE.
    """
    return _READ_NAMES(crypto.dump_certificate(crypto.FILETYPE_TEXT, certificate)) is not None


def _alternative_name(name: Element, every_name: bool) -> str | None:
    """Return one name with its kind; None if it is of a kind that is not shown, or an address of an odd length."""
    if name.tag in _TEXTS:
        content, rest = (name.content, b"") if every_name else (name.content[:MAX_TEXT], name.content[MAX_TEXT:])
        return f"{_TEXTS[name.tag]}:{_ascii(content)}{CUT if rest else ''}"
    if name.tag == _ADDRESS and len(name.content) in {4, 16}:
        return f"ip:{ip_address(name.content)}"
    return None


def _ascii(octets: bytes) -> str:
    if octets.isalnum():
        return octets.decode("ascii")
    return "".join(chr(o) if 0x20 <= o < 0x7F and o not in b",\\" else f"\\{o:02X}" for o in octets)
