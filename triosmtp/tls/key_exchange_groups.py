"""The groups of key exchange that are offered, which OpenSSL calls curves, too (RFC 8446, section 4.2.7).

In TLS 1.2 they limit client certificates as well.  OpenSSL ends a session if one of the two sides does not offer the
curve of the client's key (RFC 8422, section 5.1).  If clients are asked for a certificate, the server offers the curves
of such keys behind all others.

pyOpenSSL has no call for groups.  The bindings that it is made of have OpenSSL's, under a name that is not public,
since cryptography 47.  Without it OpenSSL's own groups are in force, and TLS_EC_Curve_Names is an error.  The
alternative is a configuration file of OpenSSL's.  It is read once in a process, before this module is imported, and is
in force for every other user of the library.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from OpenSSL import SSL

from triosmtp.tls.settings import MaterialError
from triosmtp.x509.error_queue import clear_errors

__all__ = ["CLIENT_KEY_CURVES", "allow_client_key_curves", "can_set_groups", "check_groups", "set_groups"]

CLIENT_KEY_CURVES: Final = ("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "secp256k1")
"""The curves of clients' keys, beside OpenSSL's own groups.  P-224 and smaller curves are too weak."""

_SET: Final[Callable[[Any, bytes], int] | None] = getattr(vars(SSL).get("_lib"), "SSL_CTX_set1_curves_list", None)


def can_set_groups() -> bool:
    """Return whether the bindings have the call."""
    return _SET is not None


def set_groups(context: SSL.Context, groups: Sequence[str]) -> None:
    """Offer ``groups`` alone, the preferred one first; nothing changes if there are none.

    :raises MaterialError: if OpenSSL does not know one, or there is no way to say it.
    """
    if not groups:
        return
    if _SET is None:
        reason = "needs another build of cryptography, 47 or newer: this one has no way to set groups"
        raise MaterialError("TLS_EC_Curve_Names", None, reason)
    if not _set(_SET, context, groups):
        unknown = next((each for each in groups if not _is_known(_SET, each)), None)
        reason = (
            f'OpenSSL takes no list "{":".join(groups)}"' if unknown is None else f'OpenSSL has no group "{unknown}"'
        )
        raise MaterialError("TLS_EC_Curve_Names", None, reason)


def check_groups(groups: Sequence[str]) -> None:
    """Ask OpenSSL whether it knows all ``groups``.

    :raises MaterialError: if it does not.
    """
    set_groups(SSL.Context(SSL.TLS_SERVER_METHOD), groups)


def allow_client_key_curves(context: SSL.Context) -> None:
    """Offer the curves that keys of clients may be on, behind OpenSSL's own groups, as far as this OpenSSL can."""
    if _SET is not None:
        _set(_SET, context, ("DEFAULT", *(f"?{each}" for each in CLIENT_KEY_CURVES)))


def _is_known(call: Callable[[Any, bytes], int], group: str) -> bool:
    return _set(call, SSL.Context(SSL.TLS_SERVER_METHOD), (group,))


def _set(call: Callable[[Any, bytes], int], context: SSL.Context, groups: Sequence[str]) -> bool:
    done = call(context._context, ":".join(groups).encode("ascii")) == 1  # noqa: SLF001 - as above
    clear_errors()
    return done
