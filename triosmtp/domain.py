"""Domains: the one form in which they are compared and looked up, everywhere.

A right or a rule that depends on a domain compares keys and nothing else.  A text without a key is no domain: one of a
peer is refused, and ``triosmtp check`` refuses one of the operator.  Only domains are folded: local parts, user names
and common names are compared exactly.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Generic, TypeVar

import idna

from triosmtp.errors import TrioSMTPError

__all__ = ["MAX_DOMAIN", "DomainError", "DomainTable", "domain_key", "name_key", "pattern_key"]

MAX_DOMAIN: Final = 255
"""Octets of a domain (RFC 5321, section 4.5.3.1.2)."""
_MAX_NAME: Final = 253  # as it is written; RFC 1035, section 2.3.4
_MAX_LABEL: Final = 63  # RFC 1035, section 2.3.4
# The underscore is none of RFC 5321's, but it is in use, and Postfix accepts it.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

_T = TypeVar("_T")


class DomainError(TrioSMTPError, ValueError):
    """A text that is no domain; ``str()`` says why."""


@lru_cache(maxsize=1024)
def domain_key(domain: str) -> str:
    """Return a domain in the form to compare: lower case, U-labels as A-labels (RFC 5891).

    An address literal such as ``[IPv6:2001:db8::1]`` has a key too: its address in the usual form.

    :raises DomainError: if it is no domain.
    """
    if len(domain) > MAX_DOMAIN:
        raise DomainError(f"the domain is longer than {MAX_DOMAIN} octets")
    if domain.startswith("["):
        return _literal_key(domain)
    key = domain.lower() if domain.isascii() else ".".join(map(_label_key, domain.split(".")))
    if len(key) > MAX_DOMAIN:
        raise DomainError(f"the domain is longer than {MAX_DOMAIN} octets")
    if _DOMAIN.fullmatch(key) is None:
        raise DomainError("the domain is malformed")
    return key


def name_key(name: str) -> str:
    """Return the key of a domain name, as DNS has it: an address literal is not one.

    :raises DomainError: if it is no domain name.
    """
    if name.startswith("["):
        raise DomainError("an address literal is not a domain name")
    key = domain_key(name)
    if len(key) > _MAX_NAME:
        raise DomainError(f"the domain is longer than {_MAX_NAME} octets")
    return key


def pattern_key(pattern: str) -> str:
    """Return a domain pattern in the form to compare: a domain's key, perhaps after ``*.`` or ``*``, or ``*`` alone.

    ``*`` directly before an internationalised label is refused: what ends like a U-label does not end like its A-label.

    :raises DomainError: if it is no pattern.
    """
    if pattern == "*":
        return pattern
    glob = next((each for each in ("*.", "*") if pattern.startswith(each)), "")
    if not glob:
        return domain_key(pattern)
    key = name_key(pattern[len(glob) :])
    if glob == "*" and key.startswith("xn--"):
        raise DomainError("* alone cannot stand before an internationalised label: write the domain, and *. before it")
    return glob + key


def _label_key(label: str) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > _MAX_LABEL:
        raise DomainError(f"a label is longer than {_MAX_LABEL} octets")
    # A U-label is in lower case and in NFC (RFC 5890, section 2.3.2.1).  Case is mapped, as DNS compares without regard
    # to it.  No other mapping is made: what UTS 46 drops or takes for ASCII would make two texts of peers one domain.
    mapped = unicodedata.normalize("NFC", "".join(map(str.lower, label)))
    if mapped.isascii():
        raise DomainError("not an internationalised domain: another form of ASCII characters")
    try:
        return idna.alabel(mapped).decode("ascii")
    except ValueError as error:  # idna's errors are among them
        raise DomainError(f"not an internationalised domain: {error}") from None


def _literal_key(literal: str) -> str:
    inner = literal[1:-1]
    if not literal.endswith("]") or "%" in inner:  # a zone means nothing on another host (RFC 4007)
        raise DomainError("the address literal is malformed")
    try:
        if inner[:5].lower() != "ipv6:":
            return f"[{IPv4Address(inner)}]"
        address = IPv6Address(inner[5:])
    except AddressValueError as error:
        raise DomainError(f"the address literal is malformed: {error}") from None
    mapped = address.ipv4_mapped
    return f"[ipv6:{address}]" if mapped is None else f"[{mapped}]"


class DomainTable(Generic[_T]):
    """Values by domain: of the domain itself, or of the longest ``*.parent`` that has one."""

    def __init__(self, values: Mapping[str, _T]) -> None:
        self._exact = {key: value for key, value in values.items() if not key.startswith("*.")}
        self._below = {key[2:]: value for key, value in values.items() if key.startswith("*.")}

    def find(self, domain: str) -> _T | None:
        """Return the value for the key of a domain; None if there is none.

        A domain has at most 127 labels, so there are at most as many look-ups.
        """
        found = self._exact.get(domain)
        while found is None and self._below:
            _, dot, domain = domain.partition(".")
            if not dot:
                break
            found = self._below.get(domain)
        return found

    def values(self) -> Iterable[_T]:
        """Return every value."""
        return (*self._exact.values(), *self._below.values())
