"""Changes of the reply to EHLO for one connection: lines that are added, and extensions that are removed."""

import re
from typing import Final

from attrs import evolve, frozen

from triosmtp.smtp.connection_settings import ConnectionSettings

__all__ = ["MAX_ADDED_CAPABILITIES", "CapabilityChanges"]

MAX_ADDED_CAPABILITIES: Final = 32
_LINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}(?: [!-~]{1,400}){0,16}")  # RFC 5321, section 4.1.1.1
_MAX_LINE: Final = 500


@frozen(slots=True)
class CapabilityChanges:
    """Lines that are added to the reply to EHLO, and the keywords in upper case that are removed."""

    added: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()

    def with_added(self, line: str) -> "CapabilityChanges":
        """Return the changes with one more line; it takes the place of a line of the same keyword.

        :raises ValueError: if it is no line of a reply to EHLO, or if there are too many.
        """
        if len(line) > _MAX_LINE or not _LINE.fullmatch(line):
            raise ValueError(f"{line[:100]!r} is not a keyword of EHLO with its parameters")
        keyword = _keyword(line)
        others = tuple(each for each in self.added if _keyword(each) != keyword)
        if len(others) >= MAX_ADDED_CAPABILITIES:
            raise ValueError(f"more than {MAX_ADDED_CAPABILITIES} capabilities are added")
        return CapabilityChanges((*others, line), self.removed - {keyword})

    def with_removed(self, keyword: str) -> "CapabilityChanges":
        """Return the changes without an extension; its commands and parameters are refused.

        :raises ValueError: if it is not a keyword of EHLO.
        """
        if len(keyword) > _MAX_LINE or not _LINE.fullmatch(keyword):
            raise ValueError(f"{keyword[:100]!r} is not a keyword of EHLO")
        keyword = _keyword(keyword)
        added = tuple(each for each in self.added if _keyword(each) != keyword)
        return CapabilityChanges(added, self.removed | {keyword})

    def applied(self, settings: ConnectionSettings) -> ConnectionSettings:
        """Return the settings of a connection with these changes."""
        return evolve(
            settings,
            starttls=settings.starttls and "STARTTLS" not in self.removed,
            enhanced_status_codes=settings.enhanced_status_codes and "ENHANCEDSTATUSCODES" not in self.removed,
            extensions=settings.extensions - self.removed,
            added_capabilities=self.added,
            removed_capabilities=self.removed,
        )


def _keyword(line: str) -> str:
    return line.partition(" ")[0].upper()
