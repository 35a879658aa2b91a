"""Whether any client can use a certificate, from handshakes with itself, in memory.

A certificate may be in perfect order and serve nobody: its key on a curve that no client offers, or of a kind for which
TLS_Ciphers leaves no suite.  So a client that offers all that OpenSSL has tries it, with the context as it will be.
"""

from collections.abc import Sequence
from typing import Final

from OpenSSL import SSL

from triosmtp.tls.cipher import VERSIONS, handshake_completes
from triosmtp.tls.key_exchange_groups import set_groups
from triosmtp.tls.server_certificate import ServerCertificate
from triosmtp.tls.settings import TLSSettings
from triosmtp.x509.error_queue import clear_errors, error_words

__all__ = ["find_unusable"]

_EVERY_SUITE: Final = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"
_SIGNED: Final = b"ALL:COMPLEMENTOFALL:!aNULL:@SECLEVEL=0"
_MODERN: Final = (
    b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:"
    b"TLS_AES_128_CCM_8_SHA256"
)
_USUAL_CURVES: Final = frozenset({"P-256", "P-384", "P-521"})
"""Those of RFC 8446.  For others TLS 1.3 needs the algorithms of RFC 8734 and RFC 8998, which hardly any client has."""


def find_unusable(
    context: SSL.Context, settings: TLSSettings, certificates: Sequence[ServerCertificate], *, signed: bool = False
) -> str | None:
    """Return why no client can use the certificates of ``context``; None if one can.

    ``signed`` leaves suites out that need no certificate.  Blocking: a millisecond, or two.
    """
    reasons: dict[str, None] = {}
    for protocol in reversed(settings.protocols):
        if protocol == "TLSv1.3" and not any(_counts(each, settings.groups) for each in certificates):
            continue
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_min_proto_version(VERSIONS[protocol])
        client.set_max_proto_version(VERSIONS[protocol])
        client.set_cipher_list(_SIGNED if signed else _EVERY_SUITE)
        client.set_tls13_ciphersuites(_MODERN)
        set_groups(client, settings.groups)
        try:
            if handshake_completes(SSL.Connection(context), SSL.Connection(client)):
                return None
        except SSL.Error as error:
            reasons[f"{protocol}: {error_words(error)}"] = None
        finally:
            clear_errors()
    keys = " and ".join(each.key_type for each in certificates)
    words = "; ".join(reasons) or "TLSv1.3: no client knows the curve"
    return f"no client can use it: no suite of TLS_Ciphers comes about with a key of {keys} ({words})"


def _counts(certificate: ServerCertificate, groups: Sequence[str]) -> bool:
    key = certificate.public_key
    return key.kind != "ECDSA" or key.name in _USUAL_CURVES or key.name in groups
