"""The body of DATA, and of BDAT: octets in, the message out (RFC 5321, section 4.5.2; RFC 3030), fast.

The end of a body is CRLF ``.`` CRLF and nothing else.  Servers that also took ``LF . LF`` or the like were made to see
two messages where the sender's server had passed one ("SMTP smuggling"), so a CR or LF on its own is never taken for a
line's end here: not for the end of the body, not for a stuffed dot.  ``fix`` changes only what is given out, after both
were found in what came in; and a removed dot stands between two line ends, so removing it never joins a CR to an LF.

Nothing looks at single octets, nor at single lines.  Each step is one search, count or replacement over all that has
arrived, or one search for each ``max_body_line`` octets.  Octets that may turn out to be a part of the end, or of a
CRLF, stay in the caller's buffer until more is known: three at most.

The header section is bounded, so that whatever reads headers later has a bounded amount to read.
"""

import re

from triosmtp.smtp.connection_settings import MAX_HEADER, ConnectionSettings, LineEnding
from triosmtp.smtp.reply import Reply

__all__ = ["MAX_HEADER", "BodyDecoder"]

_HEADER_TOO_BIG = Reply(552, f"The header of the message exceeds {MAX_HEADER} octets", "5.3.4")
_TOO_BIG = Reply(552, "Message size exceeds the fixed limit", "5.3.4")
_LONE = Reply(550, "Lines must end in CR LF; a lone CR or LF is not accepted", "5.6.11")

_LONG_LINE = Reply(550, "A line of the message is too long", "5.6.0")

_CR, _DOT = b"\r."
# One literal octet to look for and a look behind it: half as fast again as searching for all three octets.
_LEADING_DOT = re.compile(rb"\.(?<=\r\n\.)")
_LONE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)")
# Two line ends in a row.  If any CR or LF ends a line, only the last octet of the first one is looked at: that is fast.
_EMPTY_LINE = {True: (re.compile(rb"\r\n|\r|\n"), re.compile(rb"\n(?:\r\n|\r|\n)|\r\r\n?")),
               False: (re.compile(rb"\r\n"), re.compile(rb"\r\n\r\n"))}  # fmt: skip

_SHORT = 4096  # octets: up to here one search for three octets is cheaper than a loop in Python
_DENSE = 512  # octets: where dots come closer than this, one compiled search is faster than a memchr for each


class BodyDecoder:
    """Decode one body.

    A decoder is made for each message.  So what most messages leave as it is stands in the class, and no slots are
    filled.
    """

    size: int = 0
    """Octets of the message that were returned."""
    error: Reply | None = None
    """The first error of the body.  After it nothing more is returned."""
    ended: bool = False
    """Whether the end of the body was seen."""
    discarded_size: int = 0
    """Octets that were thrown away since the fault."""

    _column: int = 0  # of "reject": octets of the unfinished line
    _header_tail: bytes | None = b"\n"  # the end of what was returned; None after the header section
    _held: bytes = b""  # a CR at the end of what came by BDAT, which may be half of a CRLF
    _line: bytes = b""  # of "fix": the unfinished line
    _long_lines: str = "none"
    _max_line: int = 0
    _modes: tuple[LineEnding, LineEnding] = ("pedantic", "pedantic")  # in headers, in the body
    _in_headers: bool = False  # and the two modes differ
    _line_ended: bool = True  # what was returned is nothing, or ends in a line end; kept up to date in headers
    _line_start: bool = True  # what came in is nothing, or ends in CRLF

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
        if binary:  # BODY=BINARYMIME: a CR or an LF is an octet like any other (RFC 3030, section 3)
            self._modes = ("ignore", "ignore")
            self._long_lines = "none"
        self._in_headers = self._modes[0] != self._modes[1]

    def decode(self, buffer: bytes, start: int) -> tuple[bytes, int]:
        """Decode ``buffer`` from ``start``.  Return the next part of the message, and where the undecoded rest begins.

        The part may be empty.  ``ended`` is whether the rest of the buffer is behind the body.
        """
        leading = self._line_start and buffer.startswith(b".", start)
        if leading and buffer.startswith(b".\r\n", start):
            self.ended = True
            return b"", start + 3
        stuffed = False
        stop = after = -1
        if len(buffer) - start <= _SHORT:
            dot = buffer.find(b"\r\n.", start)
        else:
            dot = _leading_dot(buffer, start + leading) - 2
        if dot >= 0:
            end = buffer.find(b"\r\n.\r\n", dot)
            stuffed = end != dot
            if end >= 0:
                self.ended = True
                stop, after = end + 2, end + 5
        if not self.ended:
            stop = after = self._known(buffer, start)
        if self.error is not None:
            self.discarded_size += after - start
            return b"", after
        part = buffer[start + leading : stop]
        if stuffed:
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
        if self._long_lines != "none":  # of what comes before an error, too
            part = self._with_short_lines(part, final=final or self.error is not None)
        return part

    def take(self, octets: bytes, *, final: bool) -> bytes:
        """Take octets of a chunk of BDAT (RFC 3030): counted by the caller, never searched for an end or for dots.

        Gives the next part of the message.  ``final`` is whether they are the last of it.
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
        """Whether :meth:`take` keeps something back."""
        return bool(self._held or self._line)

    def _known(self, buffer: bytes, start: int) -> int:
        """Give the offset up to which no octet can still be a part of the end of the body, or half of a CRLF."""
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
        # Faster than any way of counting CRs, LFs and CRLFs: each step is a memchr and a memcpy.
        if part.replace(b"\r", b"").replace(b"\n", b"\r\n") == part:
            return part
        if mode == "fix":
            return part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        self.error = _LONE
        return _LONE_CR_OR_LF.split(part, maxsplit=1)[0]

    def _with_short_lines(self, part: bytes, *, final: bool) -> bytes:
        """Refuse a line that is too long, or break it as Postfix does, by CRLF and a space."""
        if self._long_lines == "reject":
            return self._up_to_long_line(part)
        raw, most = self._line + part, self._max_line
        pieces: list[bytes] = []
        done = at = 0  # what was taken into pieces, and where the line begins
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
        """Return ``part`` up to the first octet that makes a line too long; only CRLF ends a line."""
        at, room = 0, self._max_line - self._column
        while len(part) - at > room:
            end = part.rfind(b"\r\n", at, at + room + 2)
            if end < 0:
                self.error = _LONG_LINE
                return part[: at + room]
            at, room = end + 2, self._max_line
        end = part.rfind(b"\r\n", at)
        self._column = len(part) - end - 2 if end >= 0 else len(part) - at + (self._max_line - room)
        return part

    def _end_of_headers(self, part: bytes, *, lenient: bool) -> int:
        """Find the end of the first empty line that is given out; ``lenient`` where any CR or LF ends a line."""
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
        """Look for the first empty line; refuse a header that is too long."""
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


def _leading_dot(buffer: bytes, start: int) -> int:
    """Find the first dot behind a CRLF, or -1.  Base64 has no dots at all, and other text often few."""
    dot = buffer.find(b".", start)
    errors = start - 8 * _DENSE
    while dot >= 0 and buffer[dot - 2 : dot] != b"\r\n":
        errors += _DENSE
        if errors > dot:
            match = _LEADING_DOT.search(buffer, dot)
            return match.start() if match else -1
        dot = buffer.find(b".", dot + 1)
    return dot


def _last_break(raw: bytes, start: int, stop: int) -> int:
    """Return the offset of the last CR or LF, or -1."""
    return max(raw.rfind(b"\n", start, stop), raw.rfind(b"\r", start, stop))
