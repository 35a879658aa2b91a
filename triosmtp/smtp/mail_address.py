"""Mail addresses and the path grammar of MAIL and RCPT (RFC 5321, section 4.1.2; RFC 6531, section 3.3)."""

import re
from enum import Enum, auto
from functools import lru_cache
from typing import ClassVar, Final

from attrs import field, frozen

from triosmtp.domain import MAX_DOMAIN, DomainError, domain_key
from triosmtp.errors import TrioSMTPError

__all__ = ["PLAIN_PATH", "Address", "PathError", "PathProblem", "parse_path"]

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"  # the hyphen escaped: more follows it in a class
_BEYOND = r"\u00a0-\u2027\u202a-\U0010ffff"  # RFC 6531's UTF8-non-ascii, less what breaks lines: C1, U+2028, U+2029
_DOT_STRING = re.compile(rf"[{_ATEXT}{_BEYOND}]+(?:\.[{_ATEXT}{_BEYOND}]+)*")
# Dots in a row and at the end are met in practice, and Postfix accepts them.  Not at the beginning.
_UNQUOTED = re.compile(rf"[{_ATEXT}{_BEYOND}][{_ATEXT}{_BEYOND}.]*")
_QUOTED_STRING = re.compile(rf'"((?:[ !#-\[\]-~{_BEYOND}]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
PLAIN_PATH: Final = rf"<([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@([A-Za-z0-9._-]+)>"
"""The regular expression of nearly every path.  Its groups are the local part, and what is a domain if it has a key."""
_PLAIN = re.compile(PLAIN_PATH)


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
    these two fields; to compare domains use :attr:`domain_key`.  The length of a local part is bounded by the command
    line alone (RFC 5321, section 4.5.3.1.1, says what must be accepted at least).
    """

    local_part: str
    domain: str
    _text: str = field(default="", eq=False, repr=False)  # as SMTP writes it, if it came so

    NULL: ClassVar["Address"]
    """The null path ``<>``: the only address that is false."""

    def __bool__(self) -> bool:
        return bool(self.local_part or self.domain)

    def __str__(self) -> str:
        """Return ``local@domain`` as SMTP writes it, the local part quoted if it must be; empty for the null path."""
        return self._text or _written(self.local_part, self.domain)

    @property
    def domain_key(self) -> str:
        """The domain in the form to compare and look up: lower case, U-labels as A-labels; empty if there is none.

        :raises DomainError: if the domain is none, which no address of :func:`parse_path` has.
        """
        return domain_key(self.domain) if self.domain else ""


Address.NULL = Address("", "")


@lru_cache(maxsize=1024)  # of addresses that a policy made
def _written(local_part: str, domain: str) -> str:
    if not _DOT_STRING.fullmatch(local_part) and (local_part or domain):
        local_part = '"' + re.sub(r'([\\"])', r"\\\1", local_part) + '"'
    return f"{local_part}@{domain}" if domain else local_part


def parse_path(
    data: bytes, *, utf8: bool, forward: bool = False, unqualified: str | None = None, allow_literal: bool = True
) -> Address:
    """Parse one path, with its ``<`` and ``>``; a source route before the mailbox is checked and dropped.

    ``utf8`` allows what SMTPUTF8 allows.  ``forward`` is for RCPT: no null path, but the bare ``<postmaster>``.
    ``unqualified`` is the domain for a mailbox without one.

    :raises PathError: if it is not a path, or not one that these settings allow.
    """
    if data == b"<>" and not forward:
        return Address.NULL
    if match := _PLAIN.fullmatch(data.decode("latin-1")):
        local_part, domain = match.groups()
        return Address(local_part, _checked(domain), f"{local_part}@{domain}")
    local_part, written, name = _split_mailbox(_without_route(_inside(data, utf8)))
    if name is None:
        if forward and local_part.lower() == "postmaster":
            return Address(local_part, "")
        if unqualified is None:
            raise PathError(PathProblem.UNQUALIFIED, "no domain")
        domain = unqualified if utf8 or unqualified.isascii() else domain_key(unqualified)
        return Address(local_part, domain, f"{written}@{domain}" if written else "")
    if name.startswith("[") and not allow_literal:
        raise PathError(PathProblem.LITERAL, "address literals are not accepted")
    return Address(local_part, _checked(name), f"{written}@{name}" if written else "")


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
        if not hop.startswith("@") or hop.startswith("@["):
            raise PathError(PathProblem.SYNTAX, "a source route with a hop that is not @ and a domain")
        _checked(hop[1:])
    return mailbox


def _split_mailbox(mailbox: str) -> tuple[str, str, str | None]:
    """Return the local part; the same as it came, if it came without quotes; and the domain, unchecked, or None."""
    if match := _QUOTED_STRING.match(mailbox):
        local_part, written = _QUOTED_PAIR.sub(r"\1", match.group(1)), ""
    elif match := _UNQUOTED.match(mailbox):
        local_part = written = match.group()
    else:
        raise PathError(PathProblem.SYNTAX, "no local part")
    rest = mailbox[match.end() :]
    if not rest:
        return local_part, written, None
    if not rest.startswith("@"):
        raise PathError(PathProblem.SYNTAX, "the local part is malformed")
    return local_part, written, rest[1:]


def _checked(domain: str) -> str:
    """Return ``domain`` as it came if it is one."""
    try:
        domain_key(domain)
    except DomainError as error:
        problem = PathProblem.LENGTH if len(domain) > MAX_DOMAIN else PathProblem.SYNTAX
        raise PathError(problem, str(error)) from None
    return domain
