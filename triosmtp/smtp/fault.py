"""What a line is answered that no row of the table takes, and how much of it may be told."""

import re
from typing import Final

from triosmtp.smtp.command import NOT_IMPLEMENTED as NOT_IMPLEMENTED_VERBS
from triosmtp.smtp.command import Command
from triosmtp.smtp.fact import CommandError
from triosmtp.smtp.reply import Reply

__all__ = [
    "BAD_SEQUENCE", "INJECTION", "NOT_IMPLEMENTED", "TLS_FIRST", "TOO_LONG", "TOO_MANY_ERRORS", "TOO_MUCH", "TRAILING",
    "UNKNOWN", "begins_like_bdat", "not_a_command", "told",
]  # fmt: skip

TOO_LONG = Reply(500, "Line too long", "5.5.2")
UNKNOWN = Reply(500, "Command not recognized", "5.5.1")
NOT_IMPLEMENTED = Reply(502, "Command not implemented", "5.5.1")
TRAILING = Reply(501, "Trailing white space is not accepted", "5.5.4")
BAD_SEQUENCE = Reply(503, "Bad sequence of commands", "5.5.1")
TLS_FIRST = Reply(530, "Must issue a STARTTLS command first", "5.7.0")
INJECTION = Reply(554, "Input behind STARTTLS is not accepted", "5.7.0")
TOO_MUCH = Reply(421, "Too many commands without a message", "4.7.0")
TOO_MANY_ERRORS = Reply(421, "Too many errors", "4.7.0")
begins_like_bdat: Final = re.compile(rb"BDAT(?![A-Za-z0-9])", re.IGNORECASE).match
"""Whether octets may follow a line, whatever else is wrong with it."""


def not_a_command(row: Command | None, verb: bytes) -> CommandError:
    """Give the error of a line that is none of the known commands, or one of them and white space."""
    if row is None:
        return CommandError(NOT_IMPLEMENTED if verb in NOT_IMPLEMENTED_VERBS else UNKNOWN, "command not known")
    return CommandError(TRAILING, "trailing white space")


def told(line: bytes, *, secret: bool) -> bytes:
    """Give what may be told of a line: what may hold a password is shown to nobody."""
    return b"AUTH" if secret or line[:5].upper() == b"AUTH " else line
