"""Cipher suites: the meaning of TLS_Ciphers, and the suites that can be negotiated with the server's keys."""

import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final

from OpenSSL import SSL

from triosmtp.tls.key_exchange_groups import set_groups
from triosmtp.tls.settings import MaterialError
from triosmtp.tls.verify_callback import Verification
from triosmtp.x509.error_queue import clear_errors, error_words

__all__ = [
    "VERSIONS",
    "algorithm_bits",
    "check_ciphers",
    "check_suites",
    "effective_suites",
    "handshake_completes",
    "set_ciphers",
    "split_ciphers",
]

VERSIONS: Final = {
    "TLSv1.0": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
"""OpenSSL's number for each protocol version."""

_FLIGHT: Final = 1 << 18  # octets: with hundreds of names of client CAs it still goes in one piece
_GNUTLS: Final = re.compile(r"(NORMAL|SECURE\d+|PERFORMANCE|PFS|LEGACY|SYSTEM|NONE)($|[:,])|.*[-+]VERS-")


def split_ciphers(ciphers: str, suites: str | None = None) -> tuple[str, str | None]:
    """Split a cipher list into OpenSSL's list for TLS 1.2 and the suites of TLS 1.3, which begin with ``TLS_``.

    ``suites`` is what TLSv13_Ciphersuites says; then there are none in the list.

    :raises MaterialError: if it is empty, or written for GnuTLS.
    """
    if _GNUTLS.match(ciphers.strip()):
        reason = f'"{ciphers}" is a GnuTLS priority string; an OpenSSL cipher list is needed, such as "DEFAULT"'
        raise MaterialError("TLS_Ciphers", None, reason)
    names = [name for name in re.split(r"[:, ]+", ciphers) if name]
    if not names:
        raise MaterialError("TLS_Ciphers", None, "is empty")
    modern = [name for name in names if name.startswith("TLS_")]
    others = [name for name in names if not name.startswith("TLS_")]
    return ":".join(others) or "DEFAULT", ":".join(modern) or suites


def check_ciphers(ciphers: str, suites: str | None = None) -> None:
    """Ask OpenSSL whether a cipher list selects anything, and knows all ``suites`` (TLSv13_Ciphersuites).

    :raises MaterialError: if it does not.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    set_ciphers(context, ciphers, *split_ciphers(ciphers))
    if suites is not None:
        check_suites(suites)


def check_suites(suites: str) -> None:
    """Ask OpenSSL whether it knows all suites of TLSv13_Ciphersuites: of those that it does not know it is silent.

    :raises MaterialError: for the first one that it does not know.
    """
    for suite in suites.split(":"):
        try:
            SSL.Context(SSL.TLS_SERVER_METHOD).set_tls13_ciphersuites(suite.encode("ascii"))
        except (SSL.Error, UnicodeError):
            reason = f'OpenSSL has no suite "{suite}" for TLS 1.3'
            raise MaterialError("TLSv13_Ciphersuites", None, reason) from None
        finally:
            clear_errors()


def set_ciphers(context: SSL.Context, ciphers: str, cipher_list: str, suites: str | None) -> None:
    """Set the ciphers of a context; ``ciphers`` is what TLS_Ciphers says.

    :raises MaterialError: if they select nothing.
    """
    try:
        context.set_cipher_list(cipher_list.encode("ascii"))
        if suites:
            context.set_tls13_ciphersuites(suites.encode("ascii"))
    except (SSL.Error, UnicodeError) as error:
        raise MaterialError("TLS_Ciphers", None, f'"{ciphers}" selects nothing ({error_words(error)})') from None


def effective_suites(context: SSL.Context, protocol: str, groups: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the suites that a client of one ``protocol`` version can get, in the server's order of preference.

    OpenSSL's own list names suites that are never negotiated: for keys that the server does not have, for pre-shared
    keys, of older versions, or too weak for the security level.  So each is tried with a client in memory.
    Blocking: half a millisecond each.
    """
    names = SSL.Connection(context).get_cipher_list()
    return tuple(name for name in names if _comes_about(context, protocol, name, groups))


def _comes_about(context: SSL.Context, protocol: str, name: str, groups: Sequence[str]) -> bool:
    if name.startswith("TLS_") != (protocol == "TLSv1.3"):
        return False
    offer = SSL.Context(SSL.TLS_CLIENT_METHOD)
    offer.set_min_proto_version(VERSIONS[protocol])
    offer.set_max_proto_version(VERSIONS[protocol])
    set_groups(offer, groups)
    try:
        if protocol == "TLSv1.3":
            offer.set_tls13_ciphersuites(name.encode("ascii"))
        else:
            offer.set_cipher_list(f"{name}:@SECLEVEL=0".encode("ascii"))
        return handshake_completes(SSL.Connection(context), SSL.Connection(offer))
    except SSL.Error:
        return False


def handshake_completes(server: SSL.Connection, client: SSL.Connection) -> bool:
    """Return whether a handshake completes.

    :raises OpenSSL.SSL.Error: if one of the two ends it.
    """
    server.set_app_data(Verification())
    server.set_accept_state()
    client.set_connect_state()
    for near, far in ((client, server), (server, client), (client, server)):
        with suppress(SSL.WantReadError):
            near.do_handshake()
        with suppress(SSL.WantReadError):
            far.bio_write(near.bio_read(_FLIGHT))
    with suppress(SSL.WantReadError):
        server.do_handshake()
    return server.get_cipher_name() is not None


@cache
def algorithm_bits() -> dict[str, int]:
    """Return the bits of each cipher suite's algorithm by the suite's name.

    pyOpenSSL tells the bits that are really used; the two differ for 3DES (168 and 112).  The standard library knows
    both.
    """
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return {str(suite["name"]): int(suite["alg_bits"]) for suite in every.get_ciphers()}
