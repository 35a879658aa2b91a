"""Cipher suites: what TLS_Ciphers asks for, and which of it can come about on a protocol version with our keys."""

import re
import ssl
from collections.abc import Iterable
from functools import cache
from typing import Final

from attrs import frozen

from triosmtp.tls.settings import MaterialError

__all__ = ["Suite", "algorithm_bits", "split_ciphers", "suites", "usable_suites"]

_GNUTLS: Final = re.compile(r"(NORMAL|SECURE\d+|PERFORMANCE|PFS|LEGACY|SYSTEM|NONE)($|[:,])|.*[-+]VERS-")
_NEEDS: Final = {"auth-rsa": {"RSA"}, "auth-ecdsa": {"ECDSA", "Ed25519", "Ed448"}, "auth-any": None, "auth-null": None}
_DHE: Final = {"kx-dhe"}
_UNUSED: Final = {"kx-psk", "kx-ecdhe-psk", "kx-dhe-psk", "kx-rsa-psk", "kx-srp", "kx-gost"}  # nobody gives us secrets


@frozen(slots=True)
class Suite:
    """A cipher suite of OpenSSL's."""

    protocol: str
    """The version that it came with: ``TLSv1.3`` is a world of its own; the others serve later versions, too."""
    exchange: str
    authentication: str
    algorithm_bits: int


def split_ciphers(ciphers: str) -> tuple[str, str | None]:
    """Part a cipher list into OpenSSL's list for TLS 1.2 and the suites of TLS 1.3, which begin with ``TLS_``.

    :raises MaterialError: where it is empty, or written for GnuTLS.
    """
    if _GNUTLS.match(ciphers.strip()):
        reason = f'"{ciphers}" is a GnuTLS priority string; an OpenSSL cipher list is needed, such as "DEFAULT"'
        raise MaterialError("TLS_Ciphers", None, reason)
    names = [name for name in re.split(r"[:, ]+", ciphers) if name]
    if not names:
        raise MaterialError("TLS_Ciphers", None, "is empty")
    modern = [name for name in names if name.startswith("TLS_")]
    others = [name for name in names if not name.startswith("TLS_")]
    return ":".join(others) or "DEFAULT", ":".join(modern) or None


def usable_suites(names: Iterable[str], protocol: str, key_kinds: frozenset[str], *, dhe: bool) -> tuple[str, ...]:
    """Give those of ``names`` that a client of that ``protocol`` version can get from a server with such keys."""
    return tuple(name for name in names if _usable(name, protocol, key_kinds, dhe))


def _usable(name: str, protocol: str, key_kinds: frozenset[str], dhe: bool) -> bool:
    suite = suites().get(name)
    if suite is None:  # of an OpenSSL that is newer than the standard library's
        return name.startswith("TLS_") == (protocol == "TLSv1.3")
    if protocol == "TLSv1.3" or suite.protocol == "TLSv1.3":
        return suite.protocol == protocol
    if suite.protocol == "TLSv1.2" != protocol:
        return False
    if suite.exchange in _UNUSED or (suite.exchange in _DHE and not dhe) or suite.authentication not in _NEEDS:
        return False
    needed = _NEEDS[suite.authentication]
    return needed is None or not needed.isdisjoint(key_kinds)


@cache
def suites() -> dict[str, Suite]:
    """Give every suite by its name: the standard library knows what pyOpenSSL does not tell."""
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return {
        str(suite["name"]): Suite(str(suite["protocol"]), str(suite["kea"]), str(suite["auth"]), int(suite["alg_bits"]))
        for suite in every.get_ciphers()
    }


@cache
def algorithm_bits() -> dict[str, int]:
    """Give the bits of each cipher suite's algorithm by the suite's name.

    pyOpenSSL tells the bits that are really used; the two differ for 3DES (168 and 112).
    """
    return {name: suite.algorithm_bits for name, suite in suites().items()}
