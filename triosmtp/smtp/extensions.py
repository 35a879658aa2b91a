"""The extensions that a server declared in its reply to EHLO or LHLO (RFC 5321, section 4.1.1.1)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import field, frozen

from triosmtp.smtp.reply_parser import ReceivedReply

__all__ = ["NO_EXTENSIONS", "Extensions"]

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*").fullmatch
_OLD_AUTH = re.compile("AUTH=(.*)", re.IGNORECASE).fullmatch  # of servers older than RFC 2554; some still send both


@frozen(slots=True)
class Extensions:
    """Keywords in upper case, each with its parameters as the server wrote them.

    A line that is no keyword is skipped.  The reply is bounded, and so is this.
    """

    keywords: Mapping[str, tuple[str, ...]] = field(factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, reply: ReceivedReply) -> "Extensions":
        """Parse the reply to EHLO.  Its first line is the server's name and greeting."""
        found: dict[str, tuple[str, ...]] = {}
        for line in reply.lines[1:]:
            keyword, *parameters = line.split() or [""]
            if old := _OLD_AUTH(keyword):
                keyword, parameters = "AUTH", [old[1], *parameters]
            if _KEYWORD(keyword):
                found[keyword.upper()] = (*found.get(keyword.upper(), ()), *parameters)
        return cls(MappingProxyType(found))

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def parameters(self, keyword: str) -> frozenset[str]:
        """Return the parameters of a keyword in upper case; none if the server did not declare it."""
        return frozenset(each.upper() for each in self.keywords.get(keyword, ()))

    @property
    def max_size(self) -> int:
        """Octets of the largest message (RFC 1870); 0 if the server declared no limit."""
        first = next(iter(self.keywords.get("SIZE", ())), "0")
        return int(first) if first.isascii() and first.isdigit() and len(first) <= 20 else 0


NO_EXTENSIONS: Final = Extensions()
"""Those of a server that was not asked, or was asked by HELO."""
