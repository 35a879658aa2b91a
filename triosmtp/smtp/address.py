"""Mail addresses and the path grammar of MAIL and RCPT (RFC 5321, section 4.1.2; RFC 6531, section 3.3)."""

import re
from enum import Enum, auto
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import ClassVar

import idna
from attrs import frozen

from triosmtp.errors import TrioSMTPError

__all__ = ["Address", "PathError", "PathProblem", "domain_key", "parse_path"]

MAX_LOCAL_PART = 64  # octets; RFC 5321, section 4.5.3.1.1
MAX_DOMAIN = 255  # octets; section 4.5.3.1.2.  No path has room for a longer one
MAX_PATH = 256  # octets, with "<" and ">"; section 4.5.3.1.3

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"  # the hyphen escaped: more follows it in a class
_BEYOND = r"\u00a0-\u2027\u202a-\U0010ffff"  # RFC 6531's UTF8-non-ascii, less what breaks lines: C1, U+2028, U+2029
_DOT_STRING = re.compile(rf"[{_ATEXT}{_BEYOND}]+(?:\.[{_ATEXT}{_BEYOND}]+)*")
_QUOTED_STRING = re.compile(rf'"((?:[ !#-\[\]-~{_BEYOND}]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_FOREIGN_DOTS = re.compile("[\u3002\uff0e\uff61]")  # idna takes these for dots, RFC 6531 does not
_ORDINARY = re.compile(rf"<([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@([A-Za-z0-9.-]+)>".encode())


class PathProblem(Enum):
    """What is wrong with a path."""

    SYNTAX = auto()
    LENGTH = auto()
    UNQUALIFIED = auto()
    LITERAL = auto()
    NON_ASCII = auto()


class PathError(TrioSMTPError, ValueError):
    """A path that is not one; ``problem`` says in what way, ``str()`` in words."""

    def __init__(self, problem: PathProblem, message: str) -> None:
        self.problem = problem
        super().__init__(message)


@frozen(slots=True)
class Address:
    """A mailbox: its local part without quotes, and its domain as it came (literals keep their brackets).

    ``domain`` is empty for the null path, :attr:`NULL`, and for the bare ``postmaster`` alone.  Addresses compare by
    their fields; to compare domains use :attr:`domain_key`.
    """

    local_part: str
    domain: str

    NULL: ClassVar["Address"]
    """The null path ``<>``: the only address that is false."""

    def __bool__(self) -> bool:
        return bool(self.local_part or self.domain)

    def __str__(self) -> str:
        """Give ``local@domain`` as SMTP writes it, the local part quoted where it must be; empty for the null path."""
        return _written(self.local_part, self.domain)

    @property
    def domain_key(self) -> str:
        """The domain in the form to compare and look up: lower case, U-labels as A-labels."""
        return domain_key(self.domain)


Address.NULL = Address("", "")


@lru_cache(maxsize=1024)  # of each recipient a session says it five times
def _written(local_part: str, domain: str) -> str:
    if not _DOT_STRING.fullmatch(local_part) and (local_part or domain):
        local_part = '"' + re.sub(r'([\\"])', r"\\\1", local_part) + '"'
    return f"{local_part}@{domain}" if domain else local_part


@lru_cache(maxsize=1024)
def domain_key(domain: str) -> str:
    """Give ``domain`` in the form to compare: lower case, U-labels as A-labels (what is no domain: just lower case)."""
    if domain.isascii():
        return domain.lower()
    try:
        return _a_labels(domain).lower()
    except PathError:
        return domain.lower()


def parse_path(
    data: bytes, *, utf8: bool, forward: bool = False, unqualified: str | None = None, allow_literal: bool = True
) -> Address:
    """Parse one path, with its ``<`` and ``>``; a source route before the mailbox is checked and dropped.

    ``utf8`` allows what SMTPUTF8 allows.  ``forward`` is for RCPT: no null path, but the bare ``<postmaster>``.
    ``unqualified`` is the domain for a mailbox without one.

    :raises PathError: where it is not a path, or not one that these settings allow.
    """
    if data == b"<>" and not forward:
        return Address.NULL
    if len(data) > MAX_PATH:
        raise PathError(PathProblem.LENGTH, f"the path is longer than {MAX_PATH} octets")
    if match := _ORDINARY.fullmatch(data):
        local_part, domain = match.groups()
        if len(local_part) > MAX_LOCAL_PART:
            raise PathError(PathProblem.LENGTH, f"the local part is longer than {MAX_LOCAL_PART} octets")
        return Address(local_part.decode("ascii"), _domain(domain.decode("ascii")))
    local_part, domain = _split_mailbox(_without_route(_inside(data, utf8)))
    if domain is None:
        if forward and local_part.lower() == "postmaster":
            return Address(local_part, "")
        if unqualified is None:
            raise PathError(PathProblem.UNQUALIFIED, "no domain")
        return Address(local_part, unqualified)
    if domain.startswith("["):
        _check_literal(domain, allow_literal)
        return Address(local_part, domain)
    return Address(local_part, _domain(domain))


def _inside(data: bytes, utf8: bool) -> str:
    """Decode what stands between ``<`` and ``>``."""
    if not (utf8 or data.isascii()):
        raise PathError(PathProblem.NON_ASCII, "not ASCII, without SMTPUTF8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError(PathProblem.SYNTAX, "not UTF-8") from None
    if not (text.startswith("<") and text.endswith(">")):
        raise PathError(PathProblem.SYNTAX, "a path stands in < and >")
    return text[1:-1]


def _without_route(path: str) -> str:
    """Drop ``@one.example,@two.example:`` (RFC 5321, section 4.1.2 and appendix C: accepted, and ignored)."""
    if not path.startswith("@"):
        return path
    route, colon, mailbox = path.partition(":")
    if not colon:
        raise PathError(PathProblem.SYNTAX, "a source route without an end")
    for hop in route.split(","):
        if not hop.startswith("@"):
            raise PathError(PathProblem.SYNTAX, "a source route with a hop that has no @")
        _domain(hop[1:])
    return mailbox


def _split_mailbox(mailbox: str) -> tuple[str, str | None]:
    """Give the local part, unquoted, and the domain, unchecked, or None where there is none."""
    if match := _QUOTED_STRING.match(mailbox):
        wire, rest = match.group(), mailbox[match.end() :]
        local_part = _QUOTED_PAIR.sub(r"\1", match.group(1))
    elif match := _DOT_STRING.match(mailbox):
        wire = local_part = match.group()
        rest = mailbox[match.end() :]
    else:
        raise PathError(PathProblem.SYNTAX, "no local part")
    if len(wire.encode("utf-8")) > MAX_LOCAL_PART:
        raise PathError(PathProblem.LENGTH, f"the local part is longer than {MAX_LOCAL_PART} octets")
    if not rest:
        return local_part, None
    if not rest.startswith("@"):
        raise PathError(PathProblem.SYNTAX, "the local part is malformed")
    return local_part, rest[1:]


@lru_cache(maxsize=1024)
def _domain(domain: str) -> str:
    """Give ``domain`` back where it is one: a cache of the domains that mail comes from."""
    if domain.isascii():
        if not _DOMAIN.fullmatch(domain):
            raise PathError(PathProblem.SYNTAX, "the domain is malformed")
    else:
        _a_labels(domain)
    return domain


def _a_labels(domain: str) -> str:
    """Give an internationalised domain in A-labels (RFC 5891).

    Upper case and width variants are mapped first (UTS 46), as DNS names are compared without regard to case.
    """
    if _FOREIGN_DOTS.search(domain) or domain.endswith(".") or len(domain) > MAX_DOMAIN:
        raise PathError(PathProblem.SYNTAX, "the domain is malformed")
    try:
        return idna.encode(domain, strict=True, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:  # idna.IDNAError is one
        raise PathError(PathProblem.SYNTAX, f"not an internationalised domain: {error}") from None


def _check_literal(literal: str, allowed: bool) -> None:
    if not allowed:
        raise PathError(PathProblem.LITERAL, "address literals are not taken")
    inner = literal[1:-1]
    try:
        if not literal.endswith("]") or "%" in inner:  # a zone means nothing to anyone else (RFC 4007)
            raise PathError(PathProblem.SYNTAX, "the address literal is malformed")
        if inner[:5].lower() == "ipv6:":
            IPv6Address(inner[5:])
        else:
            IPv4Address(inner)
    except AddressValueError as error:
        raise PathError(PathProblem.SYNTAX, f"the address literal is malformed: {error}") from None
