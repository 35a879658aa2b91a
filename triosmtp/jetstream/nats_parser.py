r"""Reads the protocol of NATS, in the place of nats-py's parser.

A client that publishes chooses subject and headers.  A server stores any octets in them.  nats-py fails at a subject
that has a vertical tab or is no UTF-8, and at some headers.  Then its connection reads no more, or is closed.  So one
message in a stream would stop each consumer in turn.

Here every message is returned.  Octets of a subject that are no printable ASCII are shown as ``\xff``.  Of the headers
only the status is read, which a server sends.
"""

import json
import re
from typing import Any, Final

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

__all__ = ["NATSParser", "printable_subject", "read_status"]

_MAX_LINE: Final = 1 << 20
"""Octets of a line; INFO of a large cluster is the longest."""
_END: Final = b"\r\n"
_STATUS_LINE: Final = b"NATS/1.0 "
_UNPRINTABLE: Final = re.compile(rb"[^!-~]")
_words: Final = re.compile(rb"[ \t]+").split


class NATSParser(Parser):
    """The parser of one connection.  ``nc`` is the client of nats-py that handles what is read."""

    def reset(self) -> None:
        """Begin with a new connection."""
        self.buf = bytearray()
        self._message: tuple[int, bytes, bytes, int, int] | None = None

    async def parse(self, data: bytes = b"") -> None:
        """Read ``data``, and let the client handle each message that is complete.

        :raises ProtocolError: if it is not the protocol of NATS.
        """
        self.buf.extend(data)
        while await self._next():
            pass

    async def _next(self) -> bool:
        """Handle a line or a payload; return whether it was there."""
        buffer = self.buf
        if self._message is None:
            end = buffer.find(_END)
            if end < 0:
                if len(buffer) > _MAX_LINE:
                    raise ProtocolError("nats: a line has no end")
                return False
            line = bytes(buffer[:end])
            del buffer[: end + len(_END)]
            await self._read_line(line)
            return True
        sid, subject, reply, header, size = self._message
        if len(buffer) < size + len(_END):
            return False
        headers, payload = bytes(buffer[:header]), bytes(buffer[header:size])
        del buffer[: size + len(_END)]
        self._message = None
        await self.nc._process_msg(sid, subject, reply, payload, headers)  # noqa: SLF001
        return True

    async def _read_line(self, line: bytes) -> None:
        word, rest = (*_words(line.rstrip(b" \t"), 1), b"")[:2]
        word = word.upper()
        try:
            if word in {b"MSG", b"HMSG"}:
                self._begin_message(_words(rest), has_headers=word == b"HMSG")
            elif word == b"PING":
                await self.nc._process_ping()  # noqa: SLF001
            elif word == b"PONG":
                await self.nc._process_pong()  # noqa: SLF001
            elif word == b"INFO":
                await self.nc._process_info(json.loads(rest))  # noqa: SLF001
            elif word == b"-ERR":
                await self.nc._process_err(rest.decode("utf-8", "replace").strip().lower())  # noqa: SLF001
            elif word != b"+OK":
                raise ProtocolError("nats: unknown protocol")
        except (ValueError, RecursionError):
            raise ProtocolError("nats: malformed line") from None

    def _begin_message(self, words: list[bytes], *, has_headers: bool) -> None:
        sizes = 2 if has_headers else 1
        if not 2 <= len(words) - sizes <= 3:
            raise ProtocolError("nats: malformed line")
        subject, sid, *reply = words[:-sizes]
        size, header = int(words[-1]), int(words[-2]) if has_headers else 0
        if not 0 <= header <= size:
            raise ProtocolError("nats: malformed line")
        self._message = (int(sid), subject, reply[0] if reply else b"", header, size)


def printable_subject(subject: bytes) -> bytes:
    """Return a subject in printable ASCII, with escapes in the place of other octets."""
    return _UNPRINTABLE.sub(lambda found: b"\\x%02x" % ord(found[0]), subject)


def read_status(headers: bytes | None) -> dict[str, Any] | None:
    """Return the status and its description, as nats-py names them; None without headers."""
    if not headers:
        return None
    line = headers.partition(_END)[0]
    if not line.startswith(_STATUS_LINE):
        return {}
    status, _, description = line[len(_STATUS_LINE) :].strip().partition(b" ")
    found = {"Status": status.decode("ascii", "replace")} if status.isdigit() else {}
    return found | ({"Description": description.decode("utf-8", "replace")} if description else {})
