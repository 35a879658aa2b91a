"""Why a TLS handshake failed, and the name of a peer's alert, from OpenSSL's error."""

from typing import Final, Literal

from OpenSSL import SSL

__all__ = ["REASONS", "HandshakeReason", "alert_name", "failure_of"]

HandshakeReason = Literal[
    "no_common_version", "no_common_cipher", "not_tls", "peer_closed", "peer_alert", "timed_out", "injection",
    "certificate_unparsable", "certificate_too_large", "bad_certificate_proof", "curve_not_offered",
    "no_application_protocol", "verification_queue_full", "protocol_error",
]  # fmt: skip
"""Why a handshake failed: fit for a metric's label."""

REASONS: Final[dict[HandshakeReason, str]] = {
    "no_common_version": "The client offers no protocol version that is allowed here.",
    "no_common_cipher": "The client shares no cipher suite, group or signature algorithm with us.",
    "not_tls": "What the client sent is not TLS: plaintext SMTP, HTTP or something else.",
    "peer_closed": "The client closed the connection before the handshake was done.",
    "peer_alert": "The client ended the handshake with an alert, whose name stands beside.",
    "timed_out": "The client did not finish the handshake in time.",
    "injection": "The client sent plaintext behind STARTTLS that may not be taken as if it came encrypted.",
    "certificate_unparsable": "The client's certificate cannot be parsed, or its key cannot be used.",
    "certificate_too_large": "What the client sent in one flight, its certificate and all, is larger than 64 KB.",
    "bad_certificate_proof": "The client did not prove that it holds the key of its certificate.",
    "curve_not_offered": "The client's certificate has a key on a curve that not both sides offer (TLS 1.2).",
    "no_application_protocol": "The client names the protocols that it speaks (ALPN), and SMTP is not among them.",
    "verification_queue_full": "The client's certificate and its chain are large, and too many of that kind wait.",
    "protocol_error": "The client broke the protocol, in the way that stands beside.",
}
"""One sentence for each reason."""

_WORDS: Final[tuple[tuple[HandshakeReason, frozenset[str]], ...]] = (
    ("no_application_protocol", frozenset({"no application protocol"})),
    ("certificate_too_large", frozenset({"excessive message size"})),
    ("curve_not_offered", frozenset({"wrong curve"})),
    ("no_common_version", frozenset({
        "unsupported protocol", "version too low", "no protocols available", "inappropriate fallback",
        "bad protocol version number",
    })),
    ("bad_certificate_proof", frozenset({
        "bad signature", "wrong signature type", "wrong signature size", "missing verify message",
        "unsupported signature type",
    })),
    ("no_common_cipher", frozenset({
        "no shared cipher", "no suitable key share", "no shared groups", "no suitable groups",
        "no shared signature algorithms", "no suitable signature algorithm", "no ciphers specified",
    })),
    ("certificate_unparsable", frozenset({
        "cert length mismatch", "unknown certificate type", "signature for non signing certificate",
        "unable to find public key parameters", "no certificate returned", "x509 lib", "unable to get certs public key",
    })),
)  # fmt: skip
"""OpenSSL's words for what we tell apart; the first that fits decides."""

_HANDSHAKE_RECORD: Final = 0x16  # RFC 8446, section 5.1

_PEER_ALERTS: Final = ("tls alert ", "tlsv1 alert ", "tlsv13 alert ", "sslv3 alert ", "ssl/tls alert ")
_PEER_ALERTS_OTHERWISE: Final = {
    f"tlsv1 {name}": name.replace(" ", "_")
    for name in (
        "unsupported extension", "certificate unobtainable", "unrecognized name", "bad certificate status response",
        "bad certificate hash value",
    )
}  # fmt: skip
"""OpenSSL leaves the word "alert" out of these."""


def failure_of(error: SSL.Error, first: int) -> tuple[HandshakeReason, str]:
    """Return why OpenSSL ended a handshake; ``first`` is the first octet that the client sent."""
    if isinstance(error, SSL.ZeroReturnError):
        return "peer_closed", "close_notify"
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [reason for _, _, reason in entries if reason]
    detail = "; ".join(reasons) or "no reason given"
    if first != _HANDSHAKE_RECORD:
        return "not_tls", detail
    alert = next(filter(None, map(alert_name, reasons)), None)
    if alert is not None:
        return "peer_alert", alert
    for reason, words in _WORDS:
        if not words.isdisjoint(reasons):
            return reason, detail
    if any(library == "asn1 encoding routines" for library, _, _ in entries):
        return "certificate_unparsable", detail
    return "protocol_error", detail


def alert_name(reason: str) -> str | None:
    """Return the name of the peer's alert (RFC 8446, section 6) out of OpenSSL's words for it."""
    for prefix in _PEER_ALERTS:
        if reason.startswith(prefix):
            return reason[len(prefix) :].replace(" ", "_")
    return _PEER_ALERTS_OTHERWISE.get(reason)
