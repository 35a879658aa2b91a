"""Command lines: the octets that they may hold, and the usual form."""

import re
from typing import Final

from triosmtp.smtp.dialogue_state import CommandError
from triosmtp.smtp.mail_address import PLAIN_PATH
from triosmtp.smtp.reply import Reply

__all__ = ["check_line", "is_plain_line", "match_plain_line"]

_BAD_LINE_END = Reply(500, "Lines must end in CR LF; a lone CR or LF is not accepted", "5.5.2")
_BAD_OCTET = Reply(500, "Control characters are not accepted", "5.5.2")
_TEXT = r"[ -~]*[!-~]"
_PATH_ARGUMENT = rf"(?:(?<=MAIL )F(?:ROM|rom)|(?<=RCPT )T[Oo]):({PLAIN_PATH})(?: ({_TEXT}))?"
_PLAIN_LINE: Final = re.compile(rf"([!-~]+)(?: (?:{_PATH_ARGUMENT}|({_TEXT})))?\r\n".encode())
match_plain_line: Final = _PLAIN_LINE.match
"""Match a line of printable ASCII without trailing white space.

The groups are the verb; of MAIL or RCPT with a plain path, the path and the parameters; otherwise the argument.  The
time of a search is linear in the number of octets."""
is_plain_line: Final = _PLAIN_LINE.fullmatch
"""Match octets that are one such line."""
_CONTROLS = bytes(range(32)) + b"\x7f"


def check_line(line: bytes) -> None:
    """Refuse control characters, including a lone CR or LF.

    :raises CommandError: if the line has one.
    """
    if line.isascii() and str(line, "ascii").isprintable():
        return
    if b"\r" in line or b"\n" in line:
        raise CommandError(_BAD_LINE_END, "lone CR or LF in a command line")
    if len(line.translate(None, _CONTROLS)) != len(line):
        raise CommandError(_BAD_OCTET, "control character in a command line")
