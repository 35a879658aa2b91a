"""The outcome of the verification of a client certificate, and OpenSSL's texts for its errors.

OpenSSL calls :func:`record_verification` once or more for every certificate of the chain.  The function records the
result and never ends the handshake.  :attr:`Verification.is_verified` is true only if OpenSSL's last call was for the
leaf, and no call reported an error.  The final result of OpenSSL is not sufficient: after an ignored error it is "ok".
For a resumed session OpenSSL makes no call, although the session has a certificate.
"""

from typing import Final

from attrs import define
from OpenSSL import SSL, crypto

from triosmtp.tls.revocation import Revocations
from triosmtp.x509.error_queue import clear_errors

__all__ = [
    "CERTIFICATE_REVOKED",
    "INVALID_PURPOSE",
    "VERIFY_ERRORS",
    "Verification",
    "record_verification",
    "track_renegotiation",
    "verify_error_text",
]

_HANDSHAKE_START: Final = 0x10  # SSL_CB_HANDSHAKE_START
_HANDSHAKE_DONE: Final = 0x20  # SSL_CB_HANDSHAKE_DONE

INVALID_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE: the certificate, or one above it, is not for a TLS client."""
CERTIFICATE_REVOKED: Final = 23
"""X509_V_ERR_CERT_REVOKED."""


@define(slots=True, eq=False)
class Verification:
    """The record of one handshake: kept by the connection, written by the callback."""

    code: int = 0
    """OpenSSL's number of the first error (X509_V_ERR_…), at any depth; 0 as long as there was none."""
    depth: int = 0
    """The depth of the certificate that showed it: 0 is the leaf."""
    mixed: bool = False
    """Whether another error than the first one came up, at any depth."""
    leaf_passed: bool = False
    """Whether OpenSSL finished with the leaf and had nothing (left) to say against it."""
    revoked: bool = False
    """Whether OpenSSL found the leaf in a revocation list, before or after any other error."""
    handshakes: int = 0
    """How many handshakes were finished; counted only if a client may renegotiate."""
    revocations: Revocations | None = None
    """The lists that the chain is to be looked up in, set with the connection; None if there are none."""

    @property
    def is_verified(self) -> bool:
        """Whether the chain was really verified in this handshake, down to the leaf, without any error."""
        return self.leaf_passed and self.code == 0

    @property
    def only_purpose(self) -> bool:
        """Whether the chain is unsuitable for the purpose (error 26), at some depth, and nothing else is wrong."""
        return self.code == INVALID_PURPOSE and not self.mixed

    def is_revoked(self, connection: SSL.Connection, leaf: crypto.X509) -> bool:
        """Return whether a certificate of the chain below its root was revoked, regardless of other errors.

        The chain is the one that OpenSSL built, as far as it got.  If it cannot be looked up, it counts as revoked.
        """
        if self.revoked or self.revocations is None:
            return self.revoked
        try:
            chain = connection.get_verified_chain() or [leaf, *(connection.get_peer_cert_chain() or ())]
            return self.revocations.hold([leaf, *chain])
        except Exception:  # noqa: BLE001 - what is raised for hostile certificates must not end the session
            return True


def record_verification(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """Record what OpenSSL says of one certificate; always True, so that the handshake goes on.

    A function of the module, and the record in the connection's application data: a closure over the connection
    would keep it alive.  An exception must not leave it: it would end the handshake, or come up in another
    connection of the same context.  A record that was not written verifies nobody.
    """
    del certificate
    try:
        record: Verification = connection.get_app_data()
        if ok == 1 and code == 0:
            record.leaf_passed = record.leaf_passed or depth == 0
        else:
            if record.code == 0:
                record.code, record.depth = code or _UNSPECIFIED, depth
            record.mixed = record.mixed or record.code != code
            record.revoked = record.revoked or code == CERTIFICATE_REVOKED
        if record.code:
            clear_errors()
    except Exception:  # noqa: BLE001 - see above
        return True
    return True


def track_renegotiation(connection: SSL.Connection, where: int, _result: int) -> None:
    """Reset the record at each new handshake of a connection: the outcome of one says nothing of the next.

    OpenSSL calls this for every step of a handshake; it is installed only if renegotiation is allowed.
    """
    record = connection.get_app_data()
    if not isinstance(record, Verification):  # not ours to follow; an exception here would only be printed
        return
    if where & _HANDSHAKE_START:
        record.code = record.depth = 0
        record.leaf_passed = record.mixed = record.revoked = False
    elif where & _HANDSHAKE_DONE:
        record.handshakes += 1


def verify_error_text(code: int) -> str:
    """Return OpenSSL's words for an X509_V_ERR_… number."""
    return VERIFY_ERRORS.get(code, f"certificate verification error {code}")


_UNSPECIFIED: Final = 1

VERIFY_ERRORS: Final[dict[int, str]] = {
    1: "unspecified certificate verification error",
    2: "unable to get issuer certificate",
    3: "unable to get certificate CRL",
    4: "unable to decrypt certificate's signature",
    5: "unable to decrypt CRL's signature",
    6: "unable to decode issuer public key",
    7: "certificate signature failure",
    8: "CRL signature failure",
    9: "certificate is not yet valid or the system clock is incorrect",
    10: "certificate has expired",
    11: "CRL is not yet valid",
    12: "CRL has expired",
    13: "format error in certificate's notBefore field",
    14: "format error in certificate's notAfter field",
    15: "format error in CRL's lastUpdate field",
    16: "format error in CRL's nextUpdate field",
    17: "out of memory",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
    21: "unable to verify the first certificate",
    22: "certificate chain too long",
    23: "certificate revoked",
    24: "issuer certificate doesn't have a public key",
    25: "path length constraint exceeded",
    26: "unsuitable certificate purpose",
    27: "certificate not trusted",
    28: "certificate rejected",
    29: "subject issuer mismatch",
    30: "authority and subject key identifier mismatch",
    31: "authority and issuer serial number mismatch",
    32: "key usage does not include certificate signing",
    33: "unable to get CRL issuer certificate",
    34: "unhandled critical extension",
    35: "key usage does not include CRL signing",
    36: "unhandled critical CRL extension",
    37: "invalid non-CA certificate (has CA markings)",
    38: "proxy path length constraint exceeded",
    39: "key usage does not include digital signature",
    40: "proxy certificates not allowed, please set the appropriate flag",
    41: "invalid or inconsistent certificate extension",
    42: "invalid or inconsistent certificate policy extension",
    43: "no explicit policy",
    44: "different CRL scope",
    45: "unsupported extension feature",
    46: "RFC 3779 resource not subset of parent's resources",
    47: "permitted subtree violation",
    48: "excluded subtree violation",
    49: "name constraints minimum and maximum not supported",
    50: "application verification failure",
    51: "unsupported name constraint type",
    52: "unsupported or invalid name constraint syntax",
    53: "unsupported or invalid name syntax",
    54: "CRL path validation error",
    55: "path loop",
    56: "Suite B: certificate version invalid",
    57: "Suite B: invalid public key algorithm",
    58: "Suite B: invalid ECC curve",
    59: "Suite B: invalid signature algorithm",
    60: "Suite B: curve not allowed for this LOS",
    61: "Suite B: cannot sign P-384 with P-256",
    62: "hostname mismatch",
    63: "email address mismatch",
    64: "IP address mismatch",
    65: "no matching DANE TLSA records",
    66: "EE certificate key too weak",
    67: "CA certificate key too weak",
    68: "CA signature digest algorithm too weak",
    69: "invalid certificate verification context",
    70: "issuer certificate lookup error",
    71: "Certificate Transparency required, but no valid SCTs found",
    72: "proxy subject name violation",
    73: "OCSP verification needed",
    74: "OCSP verification failed",
    75: "OCSP unknown cert",
    76: "Cannot find certificate signature algorithm",
    77: "subject signature algorithm and issuer public key algorithm mismatch",
    78: "cert info signature and signature algorithm mismatch",
    79: "invalid CA certificate",
    80: "Path length invalid for non-CA cert",
    81: "Path length given without key usage keyCertSign",
    82: "Key usage keyCertSign invalid for non-CA cert",
    83: "Issuer name empty",
    84: "Subject name empty",
    85: "Missing Authority Key Identifier",
    86: "Missing Subject Key Identifier",
    87: "Empty Subject Alternative Name extension",
    88: "Subject empty and Subject Alt Name extension not critical",
    89: "Basic Constraints of CA cert not marked critical",
    90: "Authority Key Identifier marked critical",
    91: "Subject Key Identifier marked critical",
    92: "CA cert does not include key usage extension",
    93: "Using cert extension requires at least X509v3",
    94: "Certificate public key has explicit ECC parameters",
    95: "Raw public key untrusted, no trusted keys configured",
    96: "OCSP response(s) invalid",
    97: "OCSP response signature verification failure",
    98: "OCSP response not yet valid (contains a date in the future)",
    99: "OCSP response has expired",
    100: "no OCSP response available for certificate",
    102: "Empty Authority Key Identifier",
    103: "Authority Key Identifier issuer and serial number must be paired",
}
"""OpenSSL 4.0's words for every X509_V_ERR_… number."""
