"""Mail addresses and the path grammar of MAIL and RCPT (RFC 5321, section 4.1.2; RFC 6531, section 3.3)."""

import re
from enum import Enum, auto
from typing import ClassVar, Final

from attrs import Factory, field, frozen

from triosmtp.domain import MAX_DOMAIN, DomainError, domain_key
from triosmtp.errors import TrioSMTPError

__all__ = ["PLAIN_PATH", "Address", "PathError", "PathProblem", "parse_path"]

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"  # the hyphen is escaped, since it is used inside a class
# UTF8-non-ascii of RFC 6531 without line breaks: C1, U+2028, U+2029.  These classes list what they exclude, because
# `re` compiles a class with a large range slowly, and each command that reads a configuration would wait for that.
_NOT_TEXT = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_NOT_UTEXT = rf'{_NOT_TEXT} "(),:;<>@\[\\\]'
_DOT_STRING = re.compile(rf"[^{_NOT_UTEXT}.]+(?:\.[^{_NOT_UTEXT}.]+)*")
# Dots in a row and at the end occur in practice, and Postfix accepts them.  A dot at the beginning is refused.
_UNQUOTED = re.compile(rf"[^{_NOT_UTEXT}.][^{_NOT_UTEXT}]*")
_QUOTED_STRING = re.compile(rf'"((?:[^{_NOT_TEXT}"\\]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
PLAIN_PATH: Final = rf"<[{_ATEXT}]+(?:\.[{_ATEXT}]+)*@[A-Za-z0-9._-]+>"
"""The regular expression of nearly every path, without groups.  It has one ``@``.  The domain is not checked."""
_PLAIN = re.compile(PLAIN_PATH)


class PathProblem(Enum):
    """The kind of error in a path."""

    SYNTAX = auto()
    LENGTH = auto()
    UNQUALIFIED = auto()
    LITERAL = auto()
    NON_ASCII = auto()


class PathError(TrioSMTPError, ValueError):
    """A malformed or refused path.  ``problem`` is the kind of error, and ``str()`` describes it."""

    def __init__(self, problem: PathProblem, message: str) -> None:
        self.problem = problem
        super().__init__(message)


@frozen(slots=False)
class Address:
    """A mailbox: its local part without quotes, and its domain as the client sent it (literals keep their brackets).

    ``domain`` is empty only for the null path, :attr:`NULL`, and for ``postmaster`` without a domain.  Addresses are
    compared by these two fields; to compare domains use :attr:`domain_key`.  Only the command line limits the length
    of a local part (RFC 5321, section 4.5.3.1.1, sets the least that must be accepted).
    """

    local_part: str
    domain: str
    text: str = field(
        default=Factory(lambda self: _written(self.local_part, self.domain), takes_self=True), eq=False, repr=False
    )
    """The form of SMTP: ``local@domain``, the local part in quotes if needed; ``""`` for the null path."""

    NULL: ClassVar["Address"]
    """The null path ``<>``.  No other address is false."""

    def __bool__(self) -> bool:
        return bool(self.local_part or self.domain)

    def __str__(self) -> str:
        """Return :attr:`text`."""
        return self.text

    @property
    def domain_key(self) -> str:
        """The domain in the form to compare and look up: lower case, U-labels as A-labels; ``""`` if there is none.

        :raises DomainError: if the domain is malformed.  This cannot occur with an address of :func:`parse_path`.
        """
        return domain_key(self.domain) if self.domain else ""


def _written(local_part: str, domain: str) -> str:
    if not _DOT_STRING.fullmatch(local_part) and (local_part or domain):
        local_part = '"' + re.sub(r'([\\"])', r"\\\1", local_part) + '"'
    return f"{local_part}@{domain}" if domain else local_part


Address.NULL = Address("", "")


def parse_path(
    data: bytes, *, utf8: bool, forward: bool = False, unqualified: str | None = None, allow_literal: bool = True
) -> Address:
    """Parse one path with its ``<`` and ``>``.  A source route before the mailbox is checked and removed.

    ``utf8`` allows the syntax of SMTPUTF8.  ``forward`` is for RCPT: ``<postmaster>`` is allowed, ``<>`` is not.
    ``unqualified`` is the domain for a mailbox without one.

    :raises PathError: if the path is malformed, or if these arguments do not allow it.
    """
    if data == b"<>" and not forward:
        return Address.NULL
    if match := _PLAIN.fullmatch(data.decode("latin-1")):
        text = match[0][1:-1]
        local_part, _, domain = text.partition("@")
        return Address(local_part, _check_domain(domain), text)
    local_part, written, name = _split_mailbox(_strip_route(_strip_brackets(data, utf8)))
    if name is None:
        if forward and local_part.lower() == "postmaster":
            return Address(local_part, "")
        if unqualified is None:
            raise PathError(PathProblem.UNQUALIFIED, "no domain")
        domain = unqualified if utf8 or unqualified.isascii() else domain_key(unqualified)
        return _address(local_part, domain, written)
    if name.startswith("[") and not allow_literal:
        raise PathError(PathProblem.LITERAL, "address literals are not accepted")
    return _address(local_part, _check_domain(name), written)


def _address(local_part: str, domain: str, written: str) -> Address:
    """Return an address whose local part the client wrote as ``written``, or in quotes (``""``)."""
    return Address(local_part, domain, f"{written}@{domain}") if written else Address(local_part, domain)


def _strip_brackets(data: bytes, utf8: bool) -> str:
    """Decode the text between ``<`` and ``>``."""
    if not (utf8 or data.isascii()):
        raise PathError(PathProblem.NON_ASCII, "not ASCII, without SMTPUTF8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError(PathProblem.SYNTAX, "not UTF-8") from None
    if not (text.startswith("<") and text.endswith(">")):
        raise PathError(PathProblem.SYNTAX, "no < and > around the path")
    return text[1:-1]


def _strip_route(path: str) -> str:
    """Remove ``@one.example,@two.example:`` (RFC 5321, section 4.1.2 and appendix C: accepted and ignored)."""
    if not path.startswith("@"):
        return path
    route, colon, mailbox = path.partition(":")
    if not colon:
        raise PathError(PathProblem.SYNTAX, "a source route without an end")
    for hop in route.split(","):
        if not hop.startswith("@") or hop.startswith("@["):
            raise PathError(PathProblem.SYNTAX, "a source route with a hop that is not @ and a domain")
        _check_domain(hop[1:])
    return mailbox


def _split_mailbox(mailbox: str) -> tuple[str, str, str | None]:
    """Return the local part, its form on the wire (``""`` if quoted), and the unchecked domain or None."""
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


def _check_domain(domain: str) -> str:
    """Return ``domain`` unchanged if it is well-formed."""
    try:
        domain_key(domain)
    except DomainError as error:
        problem = PathProblem.LENGTH if len(domain) > MAX_DOMAIN else PathProblem.SYNTAX
        raise PathError(problem, str(error)) from None
    return domain
