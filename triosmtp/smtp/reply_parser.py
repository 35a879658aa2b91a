"""The replies of a server, as a client reads them: octets in, replies out (RFC 5321, section 4.2).

The server is not trusted.  A line, a reply, and so the memory and the time of a parser are bounded.  A violation of the
grammar is an error and never a reply, since a client that guessed a code could lose a message.  Only the end of a line
is read tolerantly: a lone LF ends it too, as in Postfix.
"""

import re
from typing import Final

from attrs import frozen

from triosmtp.errors import TrioSMTPError

__all__ = ["MAX_REPLY_LINE", "MAX_REPLY_LINES", "ReceivedReply", "ReplyError", "ReplyParser"]

MAX_REPLY_LINE: Final = 2048
"""Octets of one line with its line end.  RFC 5321, section 4.5.3.1.5, allows 512; Postfix reads 2048."""
MAX_REPLY_LINES: Final = 128
"""Lines of one reply."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: +|$)", re.ASCII).match
_SHOWN: Final = 80
_KEPT: Final = 2048


class ReplyError(TrioSMTPError):
    """Octets of a server that are no reply, too large for one, or answer nothing; the text says what it is."""


@frozen(slots=True)
class ReceivedReply:
    """One reply: the code, and the text of each line behind it.

    The text may hold any characters but LF; octets that are not UTF-8 are U+FFFD.
    """

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """Whether the command was accepted: 2yz or 3yz."""
        return self.code < 400

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code of the first line; None without one, or if its class is not that of the code.

        RFC 2034, section 4, requires the same class.
        """
        match = _ENHANCED(self.lines[0])
        if match is None or int(match[1]) != self.code // 100:
            return None
        return ".".join(str(int(number)) for number in match.groups())

    @property
    def text(self) -> str:
        """The text in one line: printable characters alone, without the enhanced status codes."""
        texts = []
        for line in self.lines:
            match = _ENHANCED(line)
            texts.append(line if match is None else line[match.end() :])
        return " ".join("".join(c if c.isprintable() else "?" for c in text).strip() for text in texts).strip()

    def shortened(self) -> "ReceivedReply":
        """Return it with its first line, and those behind it that have 2048 characters together with it.

        Who keeps or logs replies keeps these: a hostile server fills all lines of every reply.
        """
        left = _KEPT - len(self.lines[0])
        for number, line in enumerate(self.lines[1:], 1):
            left -= len(line)
            if left < 0:
                return ReceivedReply(self.code, self.lines[:number])
        return self

    def __str__(self) -> str:
        """Return code, enhanced status code and text in one printable line, for logs."""
        return " ".join(part for part in (str(self.code), self.enhanced or "", self.text) if part)


class ReplyParser:
    """Parses replies.  :meth:`receive_data` takes octets, and :meth:`next_reply` returns each reply that is complete.

    The replies do not depend on how the octets were divided.  The caller reads replies after each chunk: only the
    latest chunk and one unfinished line are kept.
    """

    __slots__ = ("_broken", "_code", "_lines", "_max_lines", "_offset", "_received")

    def __init__(self, *, max_lines: int = MAX_REPLY_LINES) -> None:
        self._max_lines = max_lines
        self._received = b""
        self._offset = 0  # of the octets in _received that were not parsed yet
        self._code = b""  # of an unfinished reply
        self._lines: list[str] = []
        self._broken: str | None = None

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take octets from the server."""
        self._received = self._received[self._offset :] + data
        self._offset = 0

    @property
    def has_more(self) -> bool:
        """Whether octets have arrived that belong to no reply that was returned."""
        return self._offset < len(self._received) or bool(self._lines)

    def take_rest(self) -> bytes:
        """Return the octets that were not parsed, and forget them."""
        rest, self._received, self._offset = self._received[self._offset :], b"", 0
        return rest

    def next_reply(self) -> ReceivedReply | None:
        """Return the next reply; None if more octets are needed.

        :raises ReplyError: if the octets are not a reply.  It is raised again by each further call.
        """
        if self._broken is not None:
            raise ReplyError(self._broken)
        while (line := self._next_line()) is not None:
            match = _LINE(line)
            if match is None:
                raise self._fail(f"not a reply: {_shown(line)}")
            code, separator, text = match.groups()
            if self._lines and code != self._code:
                raise self._fail(f"a reply with two codes, {self._code.decode()} and {code.decode()}")
            self._lines.append((text or b"").decode("utf-8", "replace"))
            if separator != b"-":
                reply = ReceivedReply(int(code), tuple(self._lines))
                self._lines = []
                return reply
            self._code = code
            if len(self._lines) >= self._max_lines:
                raise self._fail(f"a reply of more than {self._max_lines} lines")
        return None

    def _next_line(self) -> bytes | None:
        start = self._offset
        end = self._received.find(b"\n", start, start + MAX_REPLY_LINE)
        if end < 0:
            if len(self._received) - start >= MAX_REPLY_LINE:
                raise self._fail(f"a line of more than {MAX_REPLY_LINE} octets")
            return None
        self._offset = end + 1
        return self._received[start : end - 1 if self._received[start:end].endswith(b"\r") else end]

    def _fail(self, reason: str) -> ReplyError:
        self._broken = reason
        return ReplyError(reason)


def _shown(line: bytes) -> str:
    text = line[:_SHOWN].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text) + ("..." if len(line) > _SHOWN else "")
