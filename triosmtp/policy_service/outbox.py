"""The frames that wait to be sent to one policy client.  The queue is bounded, and no sender waits for it.

Questions and responses are sent before notifications.  If a notification does not fit, it is lost and counted; the next
notification that is sent says how many were lost.  A notification is encoded once for all clients that receive the same
text.  Waiting frames are sent together, because a send costs more than a hundred frames.
"""

from collections import deque
from typing import Final

import trio

__all__ = ["Outbox", "encode_text_frame"]

_MAX_BATCH: Final = 65536
"""Bytes that are sent at once, unless one frame is larger.  A ping waits for one batch at most."""


def encode_text_frame(payload: bytes) -> bytes:
    """Return a text frame of a server (RFC 6455, section 5.2): not fragmented, not masked."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class Outbox:
    """The queue of one client.  It is true while frames wait.

    ``max_notifications`` and ``max_bytes`` limit the notifications that wait, ``max_urgent`` and ``max_urgent_bytes``
    the questions and responses.
    """

    __slots__ = (
        "_max_bytes",
        "_max_notifications",
        "_max_urgent",
        "_max_urgent_bytes",
        "_not_empty",
        "_notifications",
        "_size",
        "_urgent",
        "_urgent_size",
        "lost",
    )

    def __init__(self, max_notifications: int, max_bytes: int, max_urgent: int, max_urgent_bytes: int) -> None:
        self._notifications: deque[bytes] = deque()
        self._urgent: deque[bytes] = deque()
        self._max_notifications = max_notifications
        self._max_bytes = max_bytes
        self._max_urgent = max_urgent
        self._max_urgent_bytes = max_urgent_bytes
        self._size = 0
        self._urgent_size = 0
        self._not_empty = trio.Event()
        self.lost = 0
        """Notifications that were lost since the last one that fitted."""

    def __bool__(self) -> bool:
        return bool(self._urgent or self._notifications)

    def put_notification(self, framed: bytes) -> bool:
        """Add a notification, and return whether it fitted."""
        if len(self._notifications) >= self._max_notifications or self._size + len(framed) > self._max_bytes:
            self.lost += 1
            return False
        self._notifications.append(framed)
        self._size += len(framed)
        self._not_empty.set()
        return True

    def put_urgent(self, framed: bytes) -> bool:
        """Add a question or a response, and return whether it fitted: if not, the client reads too slowly."""
        size = self._urgent_size + len(framed)
        if len(self._urgent) >= self._max_urgent or size > self._max_urgent_bytes:
            return False
        self._urgent.append(framed)
        self._urgent_size = size
        self._not_empty.set()
        return True

    async def take(self) -> bytes:
        """Wait until the queue is not empty, and remove as many frames as are to be sent at once."""
        if self:
            await trio.lowlevel.checkpoint()
        else:
            self._not_empty = trio.Event()
            await self._not_empty.wait()
            await trio.lowlevel.checkpoint_if_cancelled()  # a cancelled task must leave the frames here
        return self.take_nowait()

    def take_nowait(self) -> bytes:
        """Remove as many frames as are to be sent at once; ``b""`` if the queue is empty."""
        parts: list[bytes] = []
        size = 0
        for queue in (self._urgent, self._notifications):
            while queue and (not parts or size + len(queue[0]) <= _MAX_BATCH):
                part = queue.popleft()
                size += len(part)
                if queue is self._notifications:
                    self._size -= len(part)
                else:
                    self._urgent_size -= len(part)
                parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
