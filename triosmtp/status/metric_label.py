"""Values of the metrics' labels: fixed words, regardless of what a peer sends.

Each time series costs memory permanently, here and in Prometheus, so a peer must not be able to create one.  A value
that depends on a peer is mapped to a fixed set; values outside the set become ``other``.  Names from the configuration
and from policy clients go through :class:`LabelNames`.
"""

from typing import Final

from triosmtp.policy import PHASES
from triosmtp.smtp.command import COMMANDS

__all__ = [
    "ANSWERS",
    "AUTH_MECHANISMS",
    "CIPHERS",
    "CODES",
    "CONNECTION_LIMITS",
    "DECIDERS",
    "ENDS",
    "FALLBACKS",
    "GROUPS",
    "OTHER",
    "REFUSAL_PHASES",
    "VERBS",
    "VERIFY_REASONS",
    "VERSIONS",
    "LabelNames",
    "auth_mechanism",
    "cipher_class",
    "decider",
    "key_exchange_group",
    "limited",
    "reply_code",
    "verify_reason",
]  # fmt: skip

OTHER: Final = "other"


def limited(word: str, words: frozenset[str]) -> str:
    """Return ``word`` if it is one of ``words``, else ``other``."""
    return word if word in words else OTHER


class LabelNames:
    """Names chosen by the operator or by clients with a token: at most ``limit``, then ``other``."""

    def __init__(self, limit: int = 200) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return the label of a name."""
        if name in self._names:
            return name
        if len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name


# SMTP

VERBS: Final = frozenset(name.decode("ascii") for name in COMMANDS) | {OTHER}
REFUSAL_PHASES: Final = frozenset({*PHASES, "command"})
ENDS: Final = frozenset({
    "quit", "peer_closed", "idle", "slow", "max_session_time", "drain", "closed", "reconfigured", "refused",
    "tls_failed", "tls_alert", "tls_error", "protocol_error", "cancelled", "failed",
})  # fmt: skip
"""The reasons of :class:`triosmtp.event.Disconnected`."""
CONNECTION_LIMITS: Final = frozenset({
    "Listener_Sessions", "Service_Sessions", "TLS_Handshakes_Max", "TLS_Handshakes_Per_Peer",
    "Connections_Per_Peer", "Connection_Rate_Per_Peer",
    "Proxy_Protocol", "Proxy_Protocol_Timeout", "Workers",
})  # fmt: skip
ANSWERS: Final = frozenset({"2xx", "4xx", "5xx", "failed"})
FALLBACKS: Final = frozenset({"tempfail", "continue", "reject"})
DECIDERS: Final = frozenset({
    "protocol", "relay", "limit", "reload", "TLS_Verify_Mode", "TLS_Require_Verified", "TLS_Require_Verified_From",
    "Require_TLS_From", "Require_TLS_For", "Known_Recipients", "RFC2822_Missing_Headers", "python", "websocket",
    "lua", "policyd", "milter", "rspamd", "filter", "DNSBL_Sites", "Greylist",
    "spool", "delivery", "target", "store", "policy",
})  # fmt: skip
CODES: Final = frozenset({
    "421", "450", "451", "452", "454", "455", "500", "501", "502", "503", "504", "521", "523", "524", "530", "534",
    "535", "538", "550", "551", "552", "553", "554", "555", "556",
})  # fmt: skip
AUTH_MECHANISMS: Final = frozenset({
    "PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "EXTERNAL", "GSSAPI", "GSS-SPNEGO",
    "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "OAUTHBEARER", "XOAUTH2",
})  # fmt: skip


def reply_code(number: int) -> str:
    """Return a reply code; ``4xx`` or ``5xx`` for codes that SMTP does not use."""
    text = str(number)
    return text if text in CODES else "4xx" if number < 500 else "5xx"


def decider(decided_by: str) -> str:
    """Return the part that refused, without the name of a policy: ``python:Name`` is ``python``."""
    return limited(decided_by.partition(":")[0], DECIDERS)


def auth_mechanism(name: str) -> str:
    """Return the label of an AUTH mechanism."""
    return limited(name.upper(), AUTH_MECHANISMS)


# TLS

VERSIONS: Final = frozenset({"TLSv1", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"})

_GROUP_NAMES: Final = {
    "x25519": "x25519", "x448": "x448", "secp256r1": "secp256r1", "prime256v1": "secp256r1", "secp384r1": "secp384r1",
    "secp521r1": "secp521r1", "x25519mlkem768": "X25519MLKEM768", "secp256r1mlkem768": "SecP256r1MLKEM768",
    "secp384r1mlkem1024": "SecP384r1MLKEM1024", "mlkem512": "MLKEM512", "mlkem768": "MLKEM768",
    "mlkem1024": "MLKEM1024",
    "ffdhe2048": "ffdhe2048", "ffdhe3072": "ffdhe3072", "ffdhe4096": "ffdhe4096", "ffdhe6144": "ffdhe6144",
    "ffdhe8192": "ffdhe8192",
}  # fmt: skip
GROUPS: Final = frozenset({*_GROUP_NAMES.values(), "none", OTHER})


def key_exchange_group(name: str | None) -> str:
    """Return the label of a key exchange group; ``none`` for a key exchange without one."""
    return "none" if not name else _GROUP_NAMES.get(name.lower(), OTHER)


_CIPHER_CLASSES: Final = (
    ("NULL", "null"), ("CHACHA20", "chacha20-poly1305"), ("AES_256_GCM", "aes256-gcm"), ("AES256-GCM", "aes256-gcm"),
    ("AES_128_GCM", "aes128-gcm"), ("AES128-GCM", "aes128-gcm"), ("CCM", "aes-ccm"), ("GCM", OTHER), ("RC4", OTHER),
    ("AES", "aes-cbc"), ("CAMELLIA", "cbc"), ("ARIA", "cbc"), ("SEED", "cbc"), ("CBC", "cbc"),
)  # fmt: skip
CIPHERS: Final = frozenset({*(name for _, name in _CIPHER_CLASSES), OTHER})


def cipher_class(suite: str) -> str:
    """Return the class of the cipher in a cipher suite's OpenSSL name."""
    return next((name for part, name in _CIPHER_CLASSES if part in suite), OTHER)


_VERIFY_REASONS: Final = {
    "self_signed": (18, 19),
    "unknown_issuer": (2, 20, 21, 24, 27, 29, 30, 31, 70),
    "not_yet_valid": (9,),
    "expired": (10,),
    "revoked": (23,),
    "revocation_list": (3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44, 54),
    "bad_signature": (4, 6, 7, 76, 77, 78),
    "unsuitable": (22, 25, 26, 28, 32, 34, 37, 38, 39, 40, 79, 80, 81, 82),
    "too_weak": (66, 67, 68),
}
_REASON_OF: Final = {number: reason for reason, numbers in _VERIFY_REASONS.items() for number in numbers}
VERIFY_REASONS: Final = frozenset({*_VERIFY_REASONS, OTHER, ""})


def verify_reason(number: int) -> str:
    """Return the kind of a failed verification by OpenSSL's number (``X509_V_ERR_…``)."""
    return _REASON_OF.get(number, OTHER)
