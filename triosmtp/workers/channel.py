"""A channel for values between a supervisor and one of its workers, over a Unix socket pair.

Everything that is sent is a value (``worker_messages.py``).  Neither process holds a stream, a lock or a task of the
other.  A *notification* has no answer and is handled at once, in order.  A *request* has an answer and is handled in a
task of its own, so that a slow one delays nothing.

A frame is a length of four octets and a pickled list of messages, as ``compact_message.py`` makes it smaller.
Notifications wait up to 2 ms for others.  Those of the beginning of a session and of its handshake wait up to 10 ms.  A
request or an answer is sent at once, with everything that waits.  So a busy worker needs one system call and one pickle
for many sessions, and its supervisor one turn of the event loop.

Pickle is safe here.  Only these two processes can use the socket, and they have the same program and the same user.

Nothing is lost, and no buffer grows without bound.  A worker that sends more than its supervisor handles waits, and so
does its event loop.  A supervisor never waits for a worker: it closes the channel if its
buffer is full.
"""

import logging
import pickle
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, TypeAlias, TypeVar

import trio

from triosmtp.event import Connected, TLSEstablished
from triosmtp.workers.compact_message import compact, expand
from triosmtp.workers.worker_messages import HandshakeEnded, HandshakeStarted, WorkerRequest

__all__ = ["Channel", "ChannelClosedError", "NotificationHandlers", "RequestHandlers"]

_log = logging.getLogger("triosmtp.daemon")

S = TypeVar("S")
T = TypeVar("T")
NotificationHandlers: TypeAlias = Mapping[type, Callable[[Any], None]]
"""The handler of each type of notifications."""
RequestHandlers: TypeAlias = Mapping[type, Callable[[Any], Awaitable[Any]]]
"""The handler of each type of requests; its return value or exception is the answer."""

_READ_SIZE: Final = 1 << 18
_HEADER_SIZE: Final = 4
_MAX_FRAME: Final = 1 << 28
_GATHER_SECONDS: Final = 0.002
"""Seconds that a notification waits for others."""
_LAZY_GATHER_SECONDS: Final = 0.010
"""Seconds that a notification of the following types waits for others, as their log lines may."""
_LAZY: Final = {Connected, TLSEstablished, HandshakeStarted, HandshakeEnded}
_MAX_MESSAGES: Final = 2000
"""Messages that wait to be written before the next one makes the event loop wait."""
_WITHDRAW_DEPTH: Final = 50
"""How many of the last messages are searched for one that is withdrawn."""
_MAX_UNREAD: Final = 1 << 26
"""Octets that a worker may leave unread before it is given up."""

_REQUEST: Final = 0
_ANSWER: Final = 1


class ChannelClosedError(Exception):
    """The other process has ended, so there is no answer."""


class Channel:
    """One end of a channel.

    ``waits`` is whether the event loop waits if the other process reads too slowly.  Otherwise the channel is closed.
    """

    def __init__(self, sock: socket.socket, *, waits: bool) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._waits = waits
        self._queue: list[object] = []
        self._unwritten = bytearray()
        self._received = bytearray()
        self._early: list[Any] = []  # received before run()
        self._due, self._soon, self._urgent = trio.Event(), trio.Event(), trio.Event()
        self._numbers = count(1)
        self._pending: dict[int, tuple[trio.Event, list[tuple[Any, Exception | None]]]] = {}
        self.closed = trio.Event()
        """Set when the other process has ended, or :meth:`close` was called."""

    def send(self, message: object) -> None:
        """Send a notification.  Without effect if the other process has ended."""
        if self.closed.is_set():
            return
        self._append(message)
        if type(message) in _LAZY:
            self._due.set()
        else:
            self._soon.set()
            self._due.set()

    def send_now(self, message: object) -> None:
        """Send a notification that does not wait for others."""
        self._send_urgent(message)

    def withdraw(self, message: object) -> bool:
        """Remove a notification that was not sent yet; return whether it was removed."""
        for index, each in enumerate(self._queue[: -_WITHDRAW_DEPTH - 1 : -1], 1):
            if each is message:
                del self._queue[-index]
                return True
        return False

    async def request(self, message: WorkerRequest[T]) -> T:
        """Send a request, and return the answer.

        :raises ChannelClosedError: if the other process has ended.
        :raises Exception: the exception of the other process's handler.
        """
        if self.closed.is_set():
            raise ChannelClosedError
        number = next(self._numbers)
        answered, answer = trio.Event(), list[tuple[Any, Exception | None]]()
        self._pending[number] = answered, answer
        try:
            self._send_urgent((_REQUEST, number, message))
            await answered.wait()
        finally:
            del self._pending[number]
        if not answer:
            raise ChannelClosedError
        value, error = answer[0]
        if error is not None:
            raise error
        result: T = value
        return result

    def answer(self, number: int, value: object = None, error: Exception | None = None) -> None:
        """Answer the request with this number."""
        self._send_urgent((_ANSWER, number, value, None if error is None else _picklable(error)))

    async def receive_first(self, kind: type[S]) -> tuple[int, S]:
        """Receive the first request of type ``kind``: its number and the request.  :meth:`run` handles other messages.

        :raises ChannelClosedError: if the other process has ended.
        """
        while await self._receive():
            while messages := self._next_frame():
                for index, message in enumerate(messages):
                    if type(message) is tuple and message[0] == _REQUEST and type(message[2]) is kind:
                        self._early += messages[:index] + messages[index + 1 :]
                        return message[1], message[2]
                self._early += messages
        raise ChannelClosedError

    def close(self) -> None:
        """End the channel.  May be called again."""
        if self.closed.is_set():
            return
        self.closed.set()
        for event in (self._due, self._soon, self._urgent):
            event.set()
        self._queue.clear()
        self._unwritten.clear()
        for answered, _ in self._pending.values():
            answered.set()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    async def run(self, notifications: NotificationHandlers, requests: RequestHandlers) -> None:
        """Read and write until the other process has ended.  Everything that it sent before is handled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(nursery, notifications, requests)
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def flush(self) -> None:
        """Write everything, and block while the other process does not read."""
        if self.closed.is_set():
            return
        self._pack()
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        while self._unwritten and not self.closed.is_set():
            poll.poll()
            if not self._write_some():
                return

    # Writing

    def _send_urgent(self, message: object) -> None:
        if not self.closed.is_set():
            self._append(message)
            self._urgent.set()
            self._soon.set()
            self._due.set()

    def _append(self, message: object) -> None:
        self._queue.append(message)
        if len(self._queue) > _MAX_MESSAGES:
            if self._waits:
                self.flush()
            else:
                self._pack()

    def _pack(self) -> None:
        if not self._queue:
            return
        messages, self._queue = self._queue, []
        data = pickle.dumps(compact(messages), pickle.HIGHEST_PROTOCOL)
        self._unwritten += len(data).to_bytes(_HEADER_SIZE, "big")
        self._unwritten += data
        if len(self._unwritten) > _MAX_UNREAD and not self._waits:
            _log.error("a worker does not read its messages: it is given up")
            self.close()

    def _write_some(self) -> bool:
        """Write as much as the kernel accepts; return whether the other process still runs."""
        try:
            del self._unwritten[: self._sock.send(self._unwritten)]
        except BlockingIOError:
            return True
        except OSError:
            return False  # the reader notices that, too
        return True

    async def _write(self) -> None:
        while not self.closed.is_set():
            await self._due.wait()
            if not self._soon.is_set():
                with trio.move_on_after(_LAZY_GATHER_SECONDS):
                    await self._soon.wait()
            if not self._urgent.is_set():
                with trio.move_on_after(_GATHER_SECONDS):
                    await self._urgent.wait()
            self._due, self._soon, self._urgent = trio.Event(), trio.Event(), trio.Event()
            self._pack()
            while self._unwritten:
                if not self._write_some():
                    return
                if self._unwritten:
                    try:
                        await trio.lowlevel.wait_writable(self._sock)
                    except trio.ClosedResourceError:
                        return
                    self._pack()

    # Reading

    async def _receive(self) -> bool:
        """Read what has arrived; return False at the end."""
        try:
            await trio.lowlevel.wait_readable(self._sock)
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return True
        except (OSError, trio.ClosedResourceError):
            return False
        self._received += data
        return bool(data)

    def _next_frame(self) -> list[Any]:
        """Return the messages of the next frame, or an empty list if it is not complete."""
        received = self._received
        if len(received) < _HEADER_SIZE:
            return []
        length = int.from_bytes(received[:_HEADER_SIZE], "big")
        assert length <= _MAX_FRAME, "the other process made the frame"
        if len(received) < _HEADER_SIZE + length:
            return []
        with memoryview(received) as view:
            messages: list[Any] = pickle.loads(view[_HEADER_SIZE : _HEADER_SIZE + length])  # noqa: S301 - see above
        del received[: _HEADER_SIZE + length]
        return expand(messages)

    async def _read(
        self, nursery: trio.Nursery, notifications: NotificationHandlers, requests: RequestHandlers
    ) -> None:
        messages, self._early = self._early, []
        while not self.closed.is_set():
            while messages := messages or self._next_frame():
                for message in messages:
                    if type(message) is not tuple:
                        self._handle(message, notifications)
                    elif message[0] == _REQUEST:
                        nursery.start_soon(self._handle_request, message[1], message[2], requests)
                    elif (pending := self._pending.get(message[1])) is not None:  # else its task was cancelled
                        answered, answer = pending
                        answer.append((message[2], message[3]))
                        answered.set()
                messages = []
            if not await self._receive():
                return

    def _handle(self, message: object, handlers: NotificationHandlers) -> None:
        try:
            handlers[type(message)](message)
        except Exception:  # noqa: BLE001 - an error of one message must not end the channel
            _log.exception("%s failed", type(message).__name__)

    async def _handle_request(self, number: int, message: object, handlers: RequestHandlers) -> None:
        try:
            value = await handlers[type(message)](message)
        except Exception as error:  # noqa: BLE001 - it is raised in the other process
            self.answer(number, error=error)
        else:
            self.answer(number, value)


def _picklable(error: Exception) -> Exception:
    """Return ``error`` if it can be sent; otherwise a RuntimeError with its type and text."""
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301 - made here
            return error.with_traceback(None)
    except Exception:  # noqa: BLE001 - other packages define exceptions that cannot be pickled
        _log.debug("%r cannot be sent", error)
    return RuntimeError(f"{type(error).__name__}: {error}")
