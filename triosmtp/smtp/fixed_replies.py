"""The fixed replies to lines that no row of the table accepts, and the part of such a line that may be logged."""

import re
from typing import Final

from triosmtp.smtp.command import NOT_IMPLEMENTED as NOT_IMPLEMENTED_VERBS
from triosmtp.smtp.command import Command
from triosmtp.smtp.dialogue_state import CommandError
from triosmtp.smtp.reply import Reply

__all__ = [
    "BAD_SEQUENCE", "INJECTION", "NOT_IMPLEMENTED", "TLS_FIRST", "TOO_LONG", "TOO_MANY_ERRORS", "TOO_MUCH_JUNK",
    "TRAILING_SPACE", "UNKNOWN", "begins_like_bdat", "loggable_line", "unknown_command",
]  # fmt: skip

TOO_LONG = Reply(500, "Line too long", "5.5.2")
UNKNOWN = Reply(500, "Command not recognized", "5.5.1")
NOT_IMPLEMENTED = Reply(502, "Command not implemented", "5.5.1")
TRAILING_SPACE = Reply(501, "Trailing white space is not accepted", "5.5.4")
BAD_SEQUENCE = Reply(503, "Bad sequence of commands", "5.5.1")
TLS_FIRST = Reply(530, "Must issue a STARTTLS command first", "5.7.0")
INJECTION = Reply(554, "Input after STARTTLS is not accepted", "5.7.0")
TOO_MUCH_JUNK = Reply(421, "Too many commands without a message", "4.7.0")
TOO_MANY_ERRORS = Reply(421, "Too many errors", "4.7.0")
begins_like_bdat: Final = re.compile(rb"BDAT(?![A-Za-z0-9])", re.IGNORECASE).match
"""Match a line that octets may follow, even if the line has other errors."""


def unknown_command(row: Command | None, verb: bytes) -> CommandError:
    """Return the error of a line that is not a known command, or is one with trailing white space."""
    if row is None:
        return CommandError(NOT_IMPLEMENTED if verb in NOT_IMPLEMENTED_VERBS else UNKNOWN, "unknown command")
    return CommandError(TRAILING_SPACE, "trailing white space")


def loggable_line(line: bytes, *, secret: bool) -> bytes:
    """Return the part of a line that may be logged: nothing that may hold a password."""
    return b"AUTH" if secret or line[:5].upper() == b"AUTH " else line
