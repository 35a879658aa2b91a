"""The body of DATA and of BDAT: octets in, the message out (RFC 5321, section 4.5.2; RFC 3030).

A body ends with CRLF ``.`` CRLF only.  Servers that also accepted ``LF . LF`` saw two messages in one message of
another server ("SMTP smuggling").  So a lone CR or LF never ends a line here: neither for the end of the body, nor for
a stuffed dot.  ``fix`` changes the message only after both were found in the input.  A stuffed dot is between
two line ends, so its removal never joins a CR to an LF.

No step looks at single octets or single lines.  Each step is one search, count or replacement over all octets that
arrived, or one search for each ``max_body_line`` octets.  Octets that may be a part of the end or of a CRLF stay in the
caller's buffer until more octets arrive: at most three.

The size of the header section is limited, so that later readers of headers have a bounded amount to read.
"""

import re

from triosmtp.smtp.connection_settings import MAX_HEADER, ConnectionSettings, LineEnding
from triosmtp.smtp.reply import Reply

__all__ = ["MAX_HEADER", "BodyDecoder", "decode_whole_body"]

_HEADER_TOO_BIG = Reply(552, f"The header of the message exceeds {MAX_HEADER} octets", "5.3.4")
_TOO_BIG = Reply(552, "Message size exceeds the fixed limit", "5.3.4")
_LONE = Reply(550, "Lines must end in CR LF; a lone CR or LF is not accepted", "5.6.11")

_LONG_LINE = Reply(550, "A line of the message is too long", "5.6.0")

_CR, _DOT = b"\r."
# A search for one octet with a look-behind is half as fast again as a search for three octets.
_LEADING_DOT = re.compile(rb"\.(?<=\r\n\.)")
_LONE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)")
# Two line ends in a row, with headers and body of any CR or LF (True) or of CRLF only (False).
_EMPTY_LINE = {True: (re.compile(rb"\r\n|\r|\n"), re.compile(rb"\n(?:\r\n|\r|\n)|\r\r\n?")),
               False: (re.compile(rb"\r\n"), re.compile(rb"\r\n\r\n"))}  # fmt: skip

_SHORT = 4096  # Octets.  Up to this size one search for three octets is cheaper than a loop in Python.
_DENSE = 512  # Octets.  If dots are closer than this, one regular expression is faster than a search for each dot.


class BodyDecoder:
    """Decode one body.

    There is one for each message.  Values that most messages do not change are attributes of the class, because setting
    them for each message costs more than the rest of the construction.
    """

    size: int = 0
    """Octets of the message that were returned."""
    error: Reply | None = None
    """The first error of the body.  The rest of the body is discarded."""
    ended: bool = False
    """Whether the end of the body was found."""
    discarded_size: int = 0
    """Octets that were discarded since the error."""

    _column: int = 0  # Of "reject": octets of the unfinished line.
    _header_tail: bytes | None = b"\n"  # The last octets returned.  None after the header section.
    _held: bytes = b""  # A CR at the end of a chunk, which may be half of a CRLF.
    _line: bytes = b""  # Of "fix": the unfinished line.
    _long_lines: str = "none"
    _max_line: int = 0
    _modes: tuple[LineEnding, LineEnding] = ("pedantic", "pedantic")  # In headers, in the body.
    _in_headers: bool = False  # And the two modes differ.
    _line_ended: bool = True  # The octets returned are none or end with a line end.  Only for headers.
    _line_start: bool = True  # The input is empty or ends with CRLF.

    def __init__(self, settings: ConnectionSettings, *, binary: bool = False) -> None:
        self._limit = settings.max_message_size
        self._max_short = settings.max_short_body
        self._simple = settings.strict_body and not binary
        if not self._simple:
            self._configure(settings, binary=binary)

    def _configure(self, settings: ConnectionSettings, *, binary: bool) -> None:
        self._modes = (settings.lone_lf_in_headers, settings.lone_lf_in_body)
        self._max_line = settings.max_body_line
        self._long_lines = settings.long_lines if settings.max_body_line else "none"
        if binary:  # BODY=BINARYMIME: CR and LF have no meaning (RFC 3030, section 3)
            self._modes = ("ignore", "ignore")
            self._long_lines = "none"
        self._in_headers = self._modes[0] != self._modes[1]

    def decode(self, buffer: bytes, start: int) -> tuple[bytes, int]:
        """Decode ``buffer`` from ``start``.  Return the next part of the message, and the offset of the undecoded rest.

        The part may be empty.  If ``ended`` is true, the rest of the buffer does not belong to the body.
        """
        leading = self._line_start and buffer.startswith(b".", start)
        if leading and buffer.startswith(b".\r\n", start):
            self.ended = True
            return b"", start + 3
        if len(buffer) - start <= _SHORT:
            dot = buffer.find(b"\r\n.", start)
        else:
            dot = _leading_dot(buffer, start + leading) - 2
        end = buffer.find(b"\r\n.\r\n", dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            stop, after = end + 2, end + 5
        else:
            stop = after = self._known(buffer, start)
        if self.error is not None:
            self.discarded_size += after - start
            return b"", after
        part = buffer[start + leading : stop]
        if dot >= 0 and dot != end:
            part = part.replace(b"\r\n.", b"\r\n")
        if not self._simple or part.replace(b"\r", b"").replace(b"\n", b"\r\n") != part:  # as in _apply
            part = self._with_good_lines(part, final=self.ended)
        size = self.size + len(part)
        if self.ended and size <= self._max_short:
            self.size = size
        else:
            part = self._within_limit(part)
        return part, after

    def _with_good_lines(self, part: bytes, *, final: bool) -> bytes:
        """Apply the settings for lines; ``final`` is whether this is the end of the message."""
        if part:
            part = self._with_line_ends(part)
        if self._long_lines != "none":  # also for the octets before an error
            part = self._with_short_lines(part, final=final or self.error is not None)
        return part

    def take(self, octets: bytes, *, final: bool) -> bytes:
        """Take octets of a chunk of BDAT (RFC 3030), which the caller counts.  Return the next part of the message.

        They are not searched for an end or for dots.  ``final`` is whether they are the last of the message.
        """
        if self.error is not None:
            self.discarded_size += len(octets)
            return b""
        if self._held:
            octets, self._held = self._held + octets, b""
        if not final and octets.endswith(b"\r"):
            octets, self._held = octets[:-1], b"\r"
        return self._within_limit(self._with_good_lines(octets, final=final))

    @property
    def holds(self) -> bool:
        """Whether :meth:`take` has octets that it has not returned."""
        return bool(self._held or self._line)

    def _known(self, buffer: bytes, start: int) -> int:
        """Return the offset before which no octet can be a part of the end of the body, or half of a CRLF."""
        stop = len(buffer)
        if stop > start and buffer[stop - 1] == _CR:
            stop -= 1
        if stop > start and buffer[stop - 1] == _DOT:
            at_line_start = self._line_start if stop - 1 == start else buffer.startswith(b"\r\n", stop - 3, stop - 1)
            stop -= at_line_start
        if stop > start:
            self._line_start = buffer.startswith(b"\r\n", stop - 2, stop)
        return stop

    def _with_line_ends(self, part: bytes) -> bytes:
        """Apply the settings for a lone CR or LF."""
        headers, body = self._modes
        if not self._in_headers:
            return self._apply(body, part)
        end = self._end_of_headers(part, lenient=headers == "fix")
        if end < 0:
            return self._apply(headers, part)
        self._in_headers = False
        done = self._apply(headers, part[:end])
        return done if self.error is not None else done + self._apply(body, part[end:])

    def _apply(self, mode: LineEnding, part: bytes) -> bytes:
        if mode == "ignore":
            return part
        # This is faster than counting CR, LF and CRLF.
        if part.replace(b"\r", b"").replace(b"\n", b"\r\n") == part:
            return part
        if mode == "fix":
            return part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        self.error = _LONE
        return _LONE_CR_OR_LF.split(part, maxsplit=1)[0]

    def _with_short_lines(self, part: bytes, *, final: bool) -> bytes:
        """Refuse a line that is too long, or break it with CRLF and a space as Postfix does."""
        if self._long_lines == "reject":
            return self._up_to_long_line(part)
        raw, most = self._line + part, self._max_line
        pieces: list[bytes] = []
        done = at = 0  # the offset of the rest that is not in pieces, and of the line
        while len(raw) - at > most:
            end = _last_break(raw, at, at + most + 1)
            if end >= 0:
                at = end + 1
            else:
                at += most
                pieces += (raw[done:at], b"\r\n ")
                done = at
        end = len(raw) if final else max(at, _last_break(raw, at, len(raw)) + 1)
        self._line = raw[end:]
        pieces.append(raw[done:end])
        return b"".join(pieces)

    def _up_to_long_line(self, part: bytes) -> bytes:
        """Return ``part`` up to the first octet that makes a line too long.  Only CRLF ends a line."""
        at, left = 0, self._max_line - self._column
        while len(part) - at > left:
            end = part.rfind(b"\r\n", at, at + left + 2)
            if end < 0:
                self.error = _LONG_LINE
                return part[: at + left]
            at, left = end + 2, self._max_line
        end = part.rfind(b"\r\n", at)
        self._column = len(part) - end - 2 if end >= 0 else len(part) - at + (self._max_line - left)
        return part

    def _end_of_headers(self, part: bytes, *, lenient: bool) -> int:
        """Find the end of the first empty line; with ``lenient`` any CR or LF ends a line."""
        line_end, empty_line = _EMPTY_LINE[lenient]
        match = (self._line_ended and line_end.match(part)) or empty_line.search(part)
        if match:
            return match.end()
        self._line_ended = part.endswith((b"\r", b"\n") if lenient else b"\r\n")
        return -1

    def _within_limit(self, part: bytes) -> bytes:
        if self._header_tail is not None and part:
            part = self._with_short_header(part, self._header_tail)
        if self._limit and self.size + len(part) > self._limit:
            self.discarded_size += self.size + len(part) - self._limit
            part = part[: self._limit - self.size]
            self.error = _TOO_BIG
        self.size += len(part)
        return part

    def _with_short_header(self, part: bytes, tail: bytes) -> bytes:
        """Look for the first empty line.  Refuse a header section that is too long."""
        text = tail + part
        end = text.find(b"\n\r\n")
        lone = text.find(b"\n\n", 0, end if end >= 0 else len(text))
        end = lone if lone >= 0 else end
        size = self.size - len(tail) + (end + 1 if end >= 0 else len(text))
        self._header_tail = text[-2:] if end < 0 else None
        if size > MAX_HEADER:
            self._header_tail = None
            self.discarded_size += self.size + len(part) - MAX_HEADER
            part = part[: MAX_HEADER - self.size]
            self.error = self.error or _HEADER_TOO_BIG
        return part


def decode_whole_body(buffer: bytes, settings: ConnectionSettings) -> bytes | None:
    """Return the message if ``buffer`` is all of a short body of DATA and is correct as it is; None if it may not be.

    It is what a :class:`BodyDecoder` makes of it.
    """
    size = len(buffer) - 3
    if (
        size > settings.max_short_body
        or not settings.strict_body
        or not buffer.endswith(b"\r\n.\r\n")
        or buffer.startswith(b".")
        or buffer.rfind(b"\n.", 0, size) >= 0  # faster than find() for three octets
    ):
        return None
    part = buffer[:size]
    return part if part.replace(b"\r", b"").replace(b"\n", b"\r\n") == part else None  # as in _apply


def _leading_dot(buffer: bytes, start: int) -> int:
    """Return the offset of the first dot behind a CRLF, or -1.  Base64 has no dots, and text has few."""
    dot = buffer.find(b".", start)
    allowance = start - 8 * _DENSE
    while dot >= 0 and buffer[dot - 2 : dot] != b"\r\n":
        allowance += _DENSE
        if allowance > dot:
            match = _LEADING_DOT.search(buffer, dot)
            return match.start() if match else -1
        dot = buffer.find(b".", dot + 1)
    return dot


def _last_break(raw: bytes, start: int, stop: int) -> int:
    """Return the offset of the last CR or LF, or -1."""
    return max(raw.rfind(b"\n", start, stop), raw.rfind(b"\r", start, stop))
