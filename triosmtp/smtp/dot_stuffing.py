"""The body of DATA as a client sends it: the message in, octets for the wire out (RFC 5321, section 4.5.2).

No lone CR or LF leaves, since servers disagree about what it means: some end a line there, and so a message
("SMTP smuggling").  Each becomes CRLF, and a dot behind it is stuffed like every dot at the beginning of a line.  So
the one end of the body is the one that :meth:`BodyEncoder.finish` writes.

Each step is one count, search or replacement over all octets of a chunk.
"""

import re

__all__ = ["BodyEncoder"]

_LONE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)")


class BodyEncoder:
    """Encode one body, chunk by chunk.  The result does not depend on how the message was divided.

    If ``canonical`` is false, a lone CR or LF stays as it is: for tests of servers.
    """

    __slots__ = ("_canonical", "_held", "_line_start")

    def __init__(self, *, canonical: bool = True) -> None:
        self._canonical = canonical
        self._held = False  # whether a CR at the end of the last chunk is still to be sent, alone or with its LF
        self._line_start = True

    def encode(self, chunk: bytes) -> bytes:
        """Return the octets to be sent for the next octets of the message; a CR at their end waits."""
        data = b"\r" + chunk if self._held and chunk else chunk
        if not data:
            return b""
        self._held = data.endswith(b"\r")
        if self._held:
            data = data[:-1]
        return self._encode(data)

    def _encode(self, data: bytes) -> bytes:
        if self._canonical and not data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
            data = _LONE_CR_OR_LF.sub(b"\r\n", data)
        first = b"." if self._line_start and data.startswith(b".") else b""
        if data:
            self._line_start = data.endswith(b"\r\n")
        return first + data.replace(b"\r\n.", b"\r\n..")

    def finish(self) -> bytes:
        """Return the rest: what waited, the end of the last line if it has none, and the end of the body."""
        rest = self._encode(b"\r") if self._held else b""
        self._held = False
        return rest + (b".\r\n" if self._line_start else b"\r\n.\r\n")
