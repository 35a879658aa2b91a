"""The overview as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

All viewers receive the same frames, at most one a second.  The connection ends if a viewer does not read in time, or if
it has gone when the next frame is sent.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from triosmtp.status.asgi import Receive, Scope, Send

__all__ = ["EventStream"]

MAX_VIEWERS: Final = 16
_PAUSE: Final = 2.0
"""Seconds between two frames."""
_FRAME_SECONDS: Final = 1.0
"""Seconds that a frame is sent to other viewers, too."""


class EventStream:
    """An ASGI application: the stream of overviews."""

    def __init__(self, gather: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._gather = gather
        self._lock = trio.Lock()
        self._frame = b""
        self._frame_time = -_FRAME_SECONDS
        self._viewers = 0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send frames until the viewer has gone."""
        if self._viewers >= MAX_VIEWERS:
            await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"30")]})
            await send({"type": "http.response.body", "body": b"too many viewers\n"})
            return
        self._viewers += 1
        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while True:
                await send({"type": "http.response.body", "body": await self.frame(), "more_body": True})
                await trio.sleep(_PAUSE)
        finally:
            self._viewers -= 1

    async def frame(self) -> bytes:
        """Return the latest frame."""
        async with self._lock:
            if trio.current_time() - self._frame_time >= _FRAME_SECONDS:
                value = await self._gather()
                # JSON escapes all line ends, and all that is not ASCII: no text can end a field.
                self._frame = await trio.to_thread.run_sync(_encode, value)
                self._frame_time = trio.current_time()
            return self._frame


def _encode(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), default=str).encode("ascii") + b"\n\n"
