"""What waits to be sent to one policy client: bounded, and never waited for by whoever puts something in.

Questions and answers go ahead of notifications.  Notifications that find no room are lost and counted, and the next one
that is sent says how many.  Frames are encoded by whoever puts them in, once for all clients that get the same; those
that wait are written with one send, because each send costs more than a hundred frames.
"""

from collections import deque
from typing import Final

import trio

__all__ = ["Outbox", "frame"]

_BATCH: Final = 262144
"""Octets that are written at once, at most, where no single frame is larger."""


def frame(payload: bytes) -> bytes:
    """Give the text frame of a server that holds ``payload`` (RFC 6455, section 5.2): whole, and not masked."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class Outbox:
    """The queue of one client.

    ``messages`` and ``octets`` bound the notifications that wait in it, ``urgent`` and ``urgent_octets`` all else.
    """

    __slots__ = (
        "_bound",
        "_due",
        "_notes",
        "_octets",
        "_size",
        "_urgent",
        "_urgent_size",
        "lost",
        "urgent_bound",
        "urgent_octets",
    )

    def __init__(self, messages: int, octets: int, urgent: int, urgent_octets: int) -> None:
        self._notes: deque[bytes] = deque()
        self._urgent: deque[bytes] = deque()
        self._bound = messages
        self._octets = octets
        self._size = 0
        self._due = trio.Event()
        self.urgent_bound = urgent
        self.urgent_octets = urgent_octets
        self._urgent_size = 0
        self.lost = 0
        """Notifications that found no room since the last one that did."""

    def put(self, framed: bytes) -> bool:
        """Put a notification in, if there is room."""
        if len(self._notes) >= self._bound or self._size + len(framed) > self._octets:
            self.lost += 1
            return False
        self._notes.append(framed)
        self._size += len(framed)
        self._due.set()
        return True

    def put_urgent(self, framed: bytes) -> bool:
        """Put a question or an answer in; False where so many wait already that the client cannot be keeping up."""
        size = self._urgent_size + len(framed)
        if len(self._urgent) >= self.urgent_bound or size > self.urgent_octets:
            return False
        self._urgent.append(framed)
        self._urgent_size = size
        self._due.set()
        return True

    async def take(self) -> bytes:
        """Wait until there is something, and take as much as is to be written at once."""
        if not (self._urgent or self._notes):
            self._due = trio.Event()
            await self._due.wait()
        parts: list[bytes] = []
        size = 0
        for queue in (self._urgent, self._notes):
            while queue and (not parts or size + len(queue[0]) <= _BATCH):
                part = queue.popleft()
                size += len(part)
                if queue is self._notes:
                    self._size -= len(part)
                else:
                    self._urgent_size -= len(part)
                parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
