"""Which octets a command line may hold."""

import re
from typing import Final

from triosmtp.smtp.fact import CommandError
from triosmtp.smtp.reply import Reply

__all__ = ["check_octets", "plain_line"]

_BAD_LINE_END = Reply(500, "Lines must end in CR LF; a lone CR or LF is not accepted", "5.5.2")
_BAD_OCTET = Reply(500, "Control characters are not accepted", "5.5.2")
plain_line: Final = re.compile(rb"(([!-~]+)(?: ([ -~]*[!-~]))?)\r\n").match
"""Match a line of printable ASCII without white space at its end: the line, the verb, and the argument if there is one.

The time that a search takes is linear in the number of octets."""
_CONTROLS = bytes(range(32)) + b"\x7f"


def check_octets(line: bytes) -> None:
    """Refuse control characters, a lone CR or LF among them.

    :raises CommandError: with the reply that says which.
    """
    if line.isascii() and str(line, "ascii").isprintable():
        return
    if b"\r" in line or b"\n" in line:
        raise CommandError(_BAD_LINE_END, "lone CR or LF in a command line")
    if len(line.translate(None, _CONTROLS)) != len(line):
        raise CommandError(_BAD_OCTET, "control character in a command line")
