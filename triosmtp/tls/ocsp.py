"""An OCSP response to be sent along with a certificate (RFC 6066, section 8): read, and held against the certificate.

Its signature is not looked at: that is the client's part, and a response that does not hold harms nobody but a client
that was to be told.  What the operator may have mixed up is found: another certificate's response, a PEM file, an error
in place of a response, a time that is over.
"""

from datetime import UTC, datetime
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from triosmtp.tls.pem import Files, read_file
from triosmtp.tls.settings import MaterialError, MaterialWarning

__all__ = ["OCSPStaple", "load_staple"]


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
        """Whether the response is of this time."""
        return self.next_update is None or now < self.next_update


def load_staple(
    path: Path, chain: tuple[x509.Certificate, ...], files: Files, warnings: list[MaterialWarning]
) -> OCSPStaple:
    """Read and check the response for the first certificate of ``chain``.

    :raises MaterialError: where it is no successful response for that certificate.
    """
    data = read_file("TLS_OCSP_Response", path, files)
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            name = response.response_status.name.lower()
            raise MaterialError("TLS_OCSP_Response", path, f'is not a successful response, but "{name}"')
        single = next((each for each in response.responses if _speaks_of(each, chain)), None)
        if single is None:
            reason = "is about another certificate than the first of the file beside it"
            raise MaterialError("TLS_OCSP_Response", path, reason)
        staple = OCSPStaple(
            data, single.certificate_status.name.lower(), single.this_update_utc, single.next_update_utc
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = f"is not an OCSP response in DER: {error}"
        raise MaterialError("TLS_OCSP_Response", path, " ".join(reason.split())) from None
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


def _speaks_of(single: ocsp.OCSPSingleResponse, chain: tuple[x509.Certificate, ...]) -> bool:
    """Whether a response is about the first certificate of a chain (RFC 6960, section 4.1.1)."""
    leaf = chain[0]
    if single.serial_number != leaf.serial_number:
        return False
    digest = hashes.Hash(single.hash_algorithm)
    digest.update(leaf.issuer.public_bytes())
    return digest.finalize() == single.issuer_name_hash
