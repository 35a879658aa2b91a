"""Revocation lists (RFC 5280, section 5), and whether one lists a certificate of a client's chain.

OpenSSL looks at the lists only if nothing else was wrong before, and only for the client's own certificate.  A
revoked certificate must not be better off with a second fault.  So issuer and serial number of every certificate below
the anchor are looked up here, regardless of what OpenSSL found.

pyOpenSSL has no class for lists, and cryptography refuses names that OpenSSL takes.  :mod:`.der` reads a list; it
accepts only encodings with one reading.  Its issuer is given to OpenSSL in a certificate that has no other use.  So
OpenSSL compares the names, without regard to case, spaces and types of strings.
"""

import binascii
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import field, frozen
from OpenSSL import crypto

from triosmtp.tls.pem import file_in_memory, pem_blocks
from triosmtp.tls.settings import MaterialError, MaterialWarning, Option
from triosmtp.x509.certificate import certificate_facts, suppress_warnings
from triosmtp.x509.der import (
    BOOLEAN,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    Element,
    element,
    elements,
    sole_content,
)
from triosmtp.x509.error_queue import error_words
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["RevocationList", "Revocations", "load_revocation_lists"]

_OPTION: Final[Option] = "TLS_Client_CRL"
_UTC_TIME, _GENERALIZED_TIME, _BIT_STRING, _EXTENSIONS = 0x17, 0x18, 0x03, 0xA0
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_DELTA: Final = bytes.fromhex("551d1b")  # 2.5.29.27, deltaCRLIndicator
_DISTRIBUTION_POINT: Final = bytes.fromhex("551d1c")  # 2.5.29.28, issuingDistributionPoint
_INDIRECT: Final = 0x84  # indirectCRL in an issuingDistributionPoint
_REASON: Final = {
    "delta": "is a delta list (RFC 5280, section 5.2.4), which is not used: name the complete list",
    "indirect": "is an indirect list (RFC 5280, section 5.2.5), which is not used: name the lists of each authority",
}


@frozen(slots=True, kw_only=True, eq=False)
class RevocationList:
    """A list in force."""

    path: Path
    pem: bytes = field(repr=False)
    issuer: str
    """The authority that issued it, for display."""
    name: crypto.X509Name = field(repr=False)
    """The same, for OpenSSL to compare."""
    serials: frozenset[int] = field(repr=False)
    next_update: datetime | None
    """From then on OpenSSL verifies no certificate with it; what it lists stays revoked."""


class Revocations:
    """Lists in force, to look chains up in."""

    def __init__(self, lists: Iterable[RevocationList], anchors: Sequence[LoadedCertificate]) -> None:
        """Prepare the lists; ``anchors`` are the certificates that chains end at.

        No other authority can revoke a root.  An intermediate is looked up even if it is an anchor: the authority above
        it may have revoked it, or may be revoked itself.
        """
        self._lists: dict[int, list[RevocationList]] = {}
        with suppress_warnings():
            for each in lists:
                self._lists.setdefault(each.name.hash(), []).append(each)
            self._roots = frozenset(each.der for each in anchors if each.is_issued_by(each))
            self._revoked_anchors = self._revoked_of(anchors)

    def hold(self, chain: Sequence[crypto.X509]) -> bool:
        """Return whether a certificate of ``chain`` is listed; its last one is not looked up if it is a root.

        If its last one is an anchor, the authorities above that count as well, as far as they are anchors, too.
        """
        if not self._lists:
            return False
        if chain:
            last = crypto.dump_certificate(crypto.FILETYPE_ASN1, chain[-1])
            if last in self._revoked_anchors:
                return True
            if last in self._roots:
                chain = chain[:-1]
        with suppress_warnings():
            return any(map(self._listed, chain))

    def _revoked_of(self, anchors: Sequence[LoadedCertificate]) -> frozenset[bytes]:
        """Return the anchors that are listed, and those that were issued by such anchors and by no others."""
        below = [each for each in anchors if each.der not in self._roots]
        revoked = {each.der for each in below if self._listed(each.openssl)}
        more = bool(revoked)
        while more:
            more = False
            for each in below:
                if each.der not in revoked:
                    above = [issuer.der in revoked for issuer in anchors if each.is_issued_by(issuer)]
                    if above and all(above):
                        revoked.add(each.der)
                        more = True
        return frozenset(revoked)

    def _listed(self, certificate: crypto.X509) -> bool:
        issuer, serial = certificate.get_issuer(), certificate.get_serial_number()
        return any(serial in each.serials and each.name == issuer for each in self._lists.get(issuer.hash(), ()))


def load_revocation_lists(path: Path, data: bytes, warnings: list[MaterialWarning]) -> Iterator[RevocationList]:
    """Return the lists of a PEM file that can be used; what is not as it should be goes to ``warnings``.

    :raises MaterialError: if there is none, or one cannot be loaded.
    """
    count = 0
    for line, label, block in pem_blocks(_OPTION, path, data):
        if label != b"X509 CRL":
            continue
        count += 1
        try:
            _load(block)
            found, unused = _read(path, block)
        except (ValueError, crypto.Error) as error:
            reason = f"revocation list {count} (line {line}) cannot be parsed: {error_words(error)}"
            raise MaterialError(_OPTION, path, reason) from None
        if unused:
            reason = f'the list of "{found.issuer}" {_REASON[unused]}'
            warnings.append(MaterialWarning(_OPTION, path, reason))
            continue
        if found.next_update is not None and found.next_update < datetime.now(UTC):
            reason = f'the list of "{found.issuer}" expired on {found.next_update:%Y-%m-%d %H:%M} UTC: none of its '
            reason += "clients is verified until there is a new one"
            warnings.append(MaterialWarning(_OPTION, path, reason))
        yield found
    if not count:
        raise MaterialError(_OPTION, path, "holds no revocation list")


def _load(pem: bytes) -> None:
    with file_in_memory(pem + b"\n") as path:
        crypto.X509Store().load_locations(path)


def _read(path: Path, pem: bytes) -> tuple[RevocationList, str]:
    """Read one list (RFC 5280, section 5.1); the second value says why it is not used, or is empty."""
    try:
        der = binascii.a2b_base64(pem[pem.index(b"-----", 11) + 5 : pem.rindex(b"-----END")])
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    part, _, _ = elements(sole_content(der))
    fields = list(elements(part.require(SEQUENCE)))
    if fields[0].tag == INTEGER:
        del fields[0]  # version
    _, issuer, _, *rest = fields
    next_update = _moment(rest.pop(0)) if rest and rest[0].tag in _FORMATS else None
    entries = list(elements(rest.pop(0).content)) if rest and rest[0].tag == SEQUENCE else []
    extensions = dict(_extensions(sole_content(rest.pop(0).require(_EXTENSIONS)))) if rest else {}
    if rest:
        raise ValueError("more than a revocation list holds")
    serials = (next(elements(entry.require(SEQUENCE))).require(INTEGER) for entry in entries)
    scope = extensions.get(_DISTRIBUTION_POINT)
    indirect = scope is not None and any(each.tag == _INDIRECT for each in elements(sole_content(scope)))
    holder = _holder_of(issuer)
    shown = certificate_facts(crypto.dump_certificate(crypto.FILETYPE_ASN1, holder)).issuer
    with suppress_warnings():
        name = holder.get_issuer()
    found = RevocationList(
        path=path,
        pem=pem,
        issuer=shown or "an unreadable name",
        name=name,
        serials=frozenset(int.from_bytes(each, "big", signed=True) for each in serials),
        next_update=next_update,
    )
    return found, "delta" if _DELTA in extensions else "indirect" if indirect else ""


def _extensions(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for extension in elements(content):
        kind, *criticality, value = elements(extension.require(SEQUENCE))
        if len(criticality) > 1 or any(each.tag != BOOLEAN for each in criticality):
            raise ValueError("not an extension")
        yield kind.require(OBJECT_IDENTIFIER), value.require(OCTET_STRING)


def _moment(time: Element) -> datetime:
    return datetime.strptime(time.content.decode("ascii"), _FORMATS[time.tag]).replace(tzinfo=UTC)


def _holder_of(issuer: Element) -> crypto.X509:
    """Return a certificate without any other use whose issuer is ``issuer``: so OpenSSL reads that name."""
    algorithm = element(SEQUENCE, element(OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3d040302")))
    time, nothing = element(_UTC_TIME, b"000101000000Z"), element(_BIT_STRING, b"\x00")
    part = element(
        SEQUENCE, element(INTEGER, b"\x01"), algorithm, issuer.encoded, element(SEQUENCE, time, time),
        element(SEQUENCE), element(SEQUENCE, algorithm, nothing),
    )  # fmt: skip
    return crypto.load_certificate(crypto.FILETYPE_ASN1, element(SEQUENCE, part, algorithm, nothing))
