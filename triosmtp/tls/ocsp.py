"""An OCSP response to be sent along with a certificate (RFC 6066, section 8): read, and held against the certificate.

Its signature is not verified: clients do that, and refuse an invalid response.  Mistakes of the operator are found: the
response for another certificate, a PEM file, an error instead of a response, a response that has expired.

:mod:`.der` reads it (RFC 6960, section 4.2.1).  cryptography is not used, because it refuses responses that OpenSSL
accepts: those with an unusual string type in the responder's name.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import field, frozen

from triosmtp.tls.pem import Files, read_file
from triosmtp.tls.settings import MaterialError, MaterialWarning
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.der import INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, Element, elements, sole_content
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.signature import DIGESTS

__all__ = ["OCSPStaple", "load_staple"]

_ENUMERATED, _GENERALIZED_TIME = 0x0A, 0x18
_EXPLICIT_0, _RESPONDER_BY_NAME, _RESPONDER_BY_KEY = 0xA0, 0xA1, 0xA2
_STATUSES: Final = {1: "malformed_request", 2: "internal_error", 3: "try_later", 5: "sig_required", 6: "unauthorized"}
_WORDS: Final = {0x80: "good", 0xA1: "revoked", 0x82: "unknown"}


@frozen(slots=True)
class OCSPStaple:
    """A response that belongs to its certificate."""

    der: bytes = field(repr=False)
    status: str
    """``good``, ``revoked`` or ``unknown``."""
    this_update: datetime
    next_update: datetime | None
    """From then on it is not sent: to many clients an old response is worse than none.  None: it never grows old."""

    def in_force(self, now: datetime) -> bool:
        """Return whether the response is valid now."""
        return self.next_update is None or now < self.next_update


def load_staple(
    path: Path, chain: tuple[LoadedCertificate, ...], files: Files, warnings: list[MaterialWarning]
) -> OCSPStaple:
    """Read and check the response for the first certificate of ``chain``.

    :raises MaterialError: if it is no successful response for that certificate.
    """
    data = read_file("TLS_OCSP_Response", path, files)
    try:
        staple = _read(path, data, chain[0])
    except ValueError as error:
        reason = f"is not an OCSP response in DER: {error}"
        raise MaterialError("TLS_OCSP_Response", path, " ".join(reason.split())) from None
    if staple is None:
        reason = "is about another certificate than the first of the file beside it"
        raise MaterialError("TLS_OCSP_Response", path, reason)
    now = datetime.now(UTC)
    if staple.status != "good":
        warnings.append(MaterialWarning("TLS_OCSP_Response", path, f"says that the certificate is {staple.status}"))
    if not staple.in_force(now):
        reason = f"expired on {staple.next_update:%Y-%m-%d %H:%M} UTC: it is not sent"
        warnings.append(MaterialWarning("TLS_OCSP_Response", path, reason))
    elif staple.this_update > now:
        reason = f"is not valid before {staple.this_update:%Y-%m-%d %H:%M} UTC"
        warnings.append(MaterialWarning("TLS_OCSP_Response", path, reason))
    return staple


def _read(path: Path, data: bytes, leaf: LoadedCertificate) -> OCSPStaple | None:
    """Return what the response says of ``leaf``; None if it does not speak of it.

    :raises MaterialError: if it is an error.
    :raises ValueError: if it is not a response.
    """
    status, *body = elements(sole_content(data))
    number = int.from_bytes(status.require(_ENUMERATED), "big")
    if number:
        name = _STATUSES.get(number, f"status {number}")
        raise MaterialError("TLS_OCSP_Response", path, f'is not a successful response, but "{name}"')
    (explicit,) = body
    _, octets = elements(sole_content(explicit.require(_EXPLICIT_0)))  # id-pkix-ocsp-basic, the response
    signed, *_ = elements(sole_content(octets.require(OCTET_STRING)))
    fields = list(elements(signed.require(SEQUENCE)))
    if fields[0].tag == _EXPLICIT_0:
        del fields[0]  # version
    if fields[0].tag not in {_RESPONDER_BY_NAME, _RESPONDER_BY_KEY}:
        raise ValueError("it does not name who signed it")
    fields[1].require(_GENERALIZED_TIME)
    return next(filter(None, (_single(data, each, leaf) for each in elements(fields[2].require(SEQUENCE)))), None)


def _single(data: bytes, single: Element, leaf: LoadedCertificate) -> OCSPStaple | None:
    identifier, status, this_update, *rest = elements(single.require(SEQUENCE))
    if not _speaks_of(identifier, leaf):
        return None
    next_update = next(
        (_moment(sole_content(each.content, _GENERALIZED_TIME)) for each in rest if each.tag == _EXPLICIT_0), None
    )
    if status.tag not in _WORDS:
        raise ValueError("its status is none of RFC 6960")
    return OCSPStaple(data, _WORDS[status.tag], _moment(this_update.require(_GENERALIZED_TIME)), next_update)


def _speaks_of(identifier: Element, leaf: LoadedCertificate) -> bool:
    """Return whether a response is about a certificate (RFC 6960, section 4.1.1)."""
    algorithm, name_hash, _, serial = elements(identifier.require(SEQUENCE))
    with suppress_warnings():
        number, issuer = leaf.openssl.get_serial_number(), leaf.openssl.get_issuer().der()
    if int.from_bytes(serial.require(INTEGER), "big", signed=True) != number:
        return False
    digest = DIGESTS.get(next(elements(algorithm.require(SEQUENCE))).require(OBJECT_IDENTIFIER))
    if digest is None:
        raise ValueError("it hashes names in a way that is not known here")
    return hashlib.new(digest, issuer, usedforsecurity=False).digest() == name_hash.require(OCTET_STRING)


def _moment(time: bytes) -> datetime:
    return datetime.strptime(time.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
