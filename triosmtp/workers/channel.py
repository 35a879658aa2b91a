"""A channel between a supervisor and one of its workers: values both ways, over a Unix socket of a pair.

**The theory.**  Whatever goes through is a value: an event, a question, a verdict, a configuration.  Nothing on either
side holds a stream, a lock or a task of the other.  There are three kinds of messages: a *post* wants no answer and is
taken at once, in order; a *call* wants one, and is carried out in a task of its own, so that a slow one holds up
nothing; a *result* is its answer.

A frame is a length of four octets and a pickled list of messages: what was said within two milliseconds, or until
somebody asked for something or answered, which waits for nothing.  A busy worker so pays for one system call and one
pickle where many sessions spoke, and its supervisor for one turn of the loop.  Pickle is fit for this, because nobody
can reach the socket but these two processes, of one program and one user: whoever can write into it can do anything to
either of them already.

Nothing is lost and nothing grows without bound: whoever says more than the other one takes waits, and with it its whole
loop.  A worker that makes more events than its supervisor can tell is slowed down by that; a supervisor never waits for
a worker in this way (it has its own bound, and gives the worker up there).
"""

import logging
import pickle
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, TypeAlias

import trio

__all__ = ["Channel", "ChannelClosedError"]

_log = logging.getLogger("triosmtp.daemon")

_READ: Final = 1 << 18
_HEAD: Final = 4
_LONGEST: Final = 1 << 28
_GATHER: Final = 0.002
"""Seconds that posts wait for others."""
_MESSAGES: Final = 2000
"""Messages that wait to be written before the next one makes the loop wait."""
_UNREAD: Final = 1 << 26
"""Octets that a peer that is not waited for may leave unread."""

Handler: TypeAlias = Callable[..., Any]
_Message: TypeAlias = tuple[Any, ...]

_POST: Final = 0
_CALL: Final = 1
_RESULT: Final = 2


class ChannelClosedError(Exception):
    """The other process is gone, and with it the answer."""


class Channel:
    """One end of a channel.

    ``posts`` and ``calls`` say who takes which message: plain functions the former, async ones the latter.
    ``patient``: whether more than enough to say makes the loop wait; else the channel is closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        posts: Mapping[str, Callable[..., None]],
        calls: Mapping[str, Callable[..., Awaitable[Any]]],
        patient: bool,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._posts = posts
        self._calls = calls
        self._patient = patient
        self._said: list[_Message] = []
        self._unwritten = bytearray()
        self._due, self._urgent = trio.Event(), trio.Event()
        self._numbers = count(1)
        self._pending: dict[int, tuple[trio.Event, list[_Message]]] = {}
        self.closed = trio.Event()
        """Set when the other process is gone, or :meth:`close` was called."""

    def post(self, name: str, *arguments: Any) -> None:
        """Say something that wants no answer.  To nobody, where the other process is gone."""
        self._say((_POST, name, arguments))

    async def call(self, name: str, *arguments: Any) -> Any:
        """Ask for something, and give the answer.

        :raises ChannelClosedError: where the other process is gone.
        :raises Exception: what the other process's handler raised.
        """
        if self.closed.is_set():
            raise ChannelClosedError
        number = next(self._numbers)
        answered, answer = trio.Event(), list[_Message]()
        self._pending[number] = answered, answer
        try:
            self._say((_CALL, name, arguments, number))
            await answered.wait()
        finally:
            del self._pending[number]
        if not answer:
            raise ChannelClosedError
        _, _, value, error = answer[0]
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End it.  May be called again."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._due.set()
        self._urgent.set()
        self._said.clear()
        self._unwritten.clear()
        for answered, _ in self._pending.values():
            answered.set()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    async def run(self) -> None:
        """Read and write until the other process is gone; everything that it said before is taken."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def flush(self) -> None:
        """Write what was said, waiting for the other process as long as it takes it: before the end."""
        if self.closed.is_set():
            return
        self._pack()
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        while self._unwritten and not self.closed.is_set():
            poll.poll()
            if not self._send():
                return

    # Writing

    def _say(self, message: _Message) -> None:
        if self.closed.is_set():
            return
        self._said.append(message)
        self._due.set()
        if message[0] != _POST:
            self._urgent.set()
        if len(self._said) > _MESSAGES:
            if self._patient:
                self.flush()
            else:
                self._pack()

    def _pack(self) -> None:
        if not self._said:
            return
        said, self._said = self._said, []
        data = pickle.dumps(said, pickle.HIGHEST_PROTOCOL)
        self._unwritten += len(data).to_bytes(_HEAD, "big")
        self._unwritten += data
        if len(self._unwritten) > _UNREAD and not self._patient:
            _log.error("a worker takes nothing any more: it is given up")
            self.close()

    def _send(self) -> bool:
        """Write what there is room for; give whether the other process is there."""
        try:
            del self._unwritten[: self._sock.send(self._unwritten)]
        except BlockingIOError:
            return True
        except OSError:
            return False  # reading finds that out, too
        return True

    async def _write(self) -> None:
        while not self.closed.is_set():
            await self._due.wait()
            if not self._urgent.is_set():
                with trio.move_on_after(_GATHER):
                    await self._urgent.wait()
            self._due, self._urgent = trio.Event(), trio.Event()
            self._pack()
            while self._unwritten:
                if not self._send():
                    return
                if self._unwritten:
                    try:
                        await trio.lowlevel.wait_writable(self._sock)
                    except trio.ClosedResourceError:
                        return
                    self._pack()

    # Reading

    async def _read(self, nursery: trio.Nursery) -> None:
        received = bytearray()
        while not self.closed.is_set():
            try:
                await trio.lowlevel.wait_readable(self._sock)
                data = self._sock.recv(_READ)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
            if not data:
                return
            received += data
            while len(received) >= _HEAD:
                length = int.from_bytes(received[:_HEAD], "big")
                assert length <= _LONGEST, "frames are of our own making"
                if len(received) < _HEAD + length:
                    break
                with memoryview(received) as view:
                    messages = pickle.loads(view[_HEAD : _HEAD + length])  # noqa: S301 - see the theory
                del received[: _HEAD + length]
                for message in messages:
                    self._take(message, nursery)

    def _take(self, message: _Message, nursery: trio.Nursery) -> None:
        kind, name = message[0], message[1]
        if kind == _RESULT:
            pending = self._pending.get(name)
            if pending is not None:  # else whoever asked waits no more
                answered, answer = pending
                answer.append(message)
                answered.set()
        elif kind == _CALL:
            nursery.start_soon(self._carry_out, *message[1:])
        else:
            try:
                self._posts[name](*message[2])
            except Exception:  # noqa: BLE001 - one message must not end the conversation of two processes
                _log.exception("%s failed", name)

    async def _carry_out(self, name: str, arguments: tuple[Any, ...], number: int) -> None:
        try:
            value = await self._calls[name](*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            self._say((_RESULT, number, None, _fit(error)))
        else:
            self._say((_RESULT, number, value, None))


def _fit(error: Exception) -> Exception:
    """Give an error that arrives as what it is; where that cannot be, one that tells as much."""
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301 - our own
            return error.with_traceback(None)
    except Exception:  # noqa: BLE001 - whatever an error of others does when it is pickled
        _log.debug("%r cannot be sent", error)
    return RuntimeError(f"{type(error).__name__}: {error}")
