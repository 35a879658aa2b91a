"""The overview as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

All who watch get the same frames: one is made at most once a second, whoever asks.  Who does not read is cut off by the
connection's own limit; who has gone is found out by the next frame.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from triosmtp.status.asgi import Receive, Scope, Send

__all__ = ["Feed"]

WATCHERS: Final = 16
"""At once; further ones are turned away."""
_PAUSE: Final = 2.0
"""Seconds between two frames."""
_FRESH: Final = 1.0
"""Seconds that a frame is given to others, too."""


class Feed:
    """An ASGI application: the stream of overviews."""

    def __init__(self, gather: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._gather = gather
        self._lock = trio.Lock()
        self._frame = b""
        self._made = -_FRESH
        self._watchers = 0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send frames until the watcher is gone."""
        if self._watchers >= WATCHERS:
            await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"30")]})
            await send({"type": "http.response.body", "body": b"too many watchers\n"})
            return
        self._watchers += 1
        try:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while True:
                await send({"type": "http.response.body", "body": await self.frame(), "more_body": True})
                await trio.sleep(_PAUSE)
        finally:
            self._watchers -= 1

    async def frame(self) -> bytes:
        """Give the newest frame."""
        async with self._lock:
            if trio.current_time() - self._made >= _FRESH:
                value = await self._gather()
                # JSON escapes all line ends, and all that is not ASCII: no text can end a field.
                self._frame = await trio.to_thread.run_sync(_encode, value)
                self._made = trio.current_time()
            return self._frame


def _encode(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), default=str).encode("ascii") + b"\n\n"
