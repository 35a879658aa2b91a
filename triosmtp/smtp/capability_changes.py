"""Changes of the reply to EHLO for one connection: lines that are added, and extensions that are removed."""

import re
from typing import Final

from attrs import evolve, frozen

from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError
from triosmtp.smtp.protocol_event import Event, MailFrom
from triosmtp.smtp.reply import Reply

__all__ = ["MAX_ADDED_CAPABILITIES", "CapabilityChanges", "refuse_removed"]

MAX_ADDED_CAPABILITIES: Final = 32
_LINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}(?: [!-~]{1,400}){0,16}")  # RFC 5321, section 4.1.1.1
_MAX_LINE: Final = 500
_PARAMETERS: Final = {"SIZE": "SIZE", "8BITMIME": "BODY", "SMTPUTF8": "SMTPUTF8"}
"""The parameters of MAIL that belong to the extensions that are always offered."""


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


def refuse_removed(event: Event, settings: ConnectionSettings) -> None:
    """Refuse MAIL with a parameter of an extension that is removed, although it is always offered otherwise.

    :raises CommandError: 555, as for an unknown parameter.
    """
    if not settings.removed_capabilities or not isinstance(event, MailFrom):
        return
    for keyword in settings.removed_capabilities:
        parameter = _PARAMETERS.get(keyword)
        if parameter in event.parameters:
            raise CommandError(Reply(555, f"Unsupported parameter: {parameter}", "5.5.4"), f"parameter {parameter}")


def _keyword(line: str) -> str:
    return line.partition(" ")[0].upper()
