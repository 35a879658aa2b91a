"""The connections to one policy service: a pool, a second attempt, the time-out, the circuit breaker."""

from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.config import FilterAddress, parse_filter_address
from triosmtp.errors import connect_failure
from triosmtp.filters.policyd_codec import AnswerError, AnswerReader
from triosmtp.filters.readable import is_readable
from triosmtp.policy_service.circuit_breaker import NoAnswerError
from triosmtp.policy_service.filter_registry import FilterFigures, FilterKey
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.sockets.unix_client import connect_unix_socket

__all__ = ["MAX_CONNECTIONS", "PolicydClient"]

MAX_CONNECTIONS: Final = 20
"""Connections to one service at once; further questions wait, within their time limit."""
_MAX_IDLE: Final = 300.0
"""Seconds after which a connection that was not used is not used again, as smtpd_policy_service_max_idle of Postfix."""
_READ: Final = 4096


class _BrokenError(Exception):
    """The connection ended before an answer was complete."""


@frozen(slots=True)
class _Idle:
    stream: trio.SocketStream
    since: float


class PolicydClient:
    """Asks one policy service.  A connection carries one question at a time, and is kept for the next one.

    A connection on which anything unexpected occurred is closed: an answer that comes late never meets another
    question.
    """

    def __init__(self, key: FilterKey, limits: HubLimits) -> None:
        self._address: FilterAddress = parse_filter_address(key.address)
        self.figures = FilterFigures(key, limits)
        self._idle: list[_Idle] = []
        self._places = trio.Semaphore(MAX_CONNECTIONS)
        self._open = 0
        self._waiting = 0
        self._closed = False

    async def ask(self, request: bytes, seconds: float) -> str:
        """Return the action of the service.

        :raises NoAnswerError: if there is none that can be applied within ``seconds``.
        """
        began = trio.current_time()
        self.figures.breaker.admit(began)
        self.figures.asked += 1
        self._waiting += 1
        try:
            with trio.CancelScope(deadline=began + seconds):
                async with self._places:
                    action = await self._ask_twice(request)
                self.figures.record_answer(trio.current_time() - began)
                return action
        finally:
            self._waiting -= 1
        self.figures.record_timeout(began)
        raise NoAnswerError(f"timed out after {seconds:g} s")

    async def _ask_twice(self, request: bytes) -> str:
        """Ask on a connection, and if it breaks, once more on a new one."""
        try:
            return await self._ask_once(request, self._take_idle())
        except (OSError, _BrokenError):
            pass
        try:
            return await self._ask_once(request, None)
        except OSError as error:
            raise NoAnswerError(f"cannot connect to {self._address}: {connect_failure(error)}") from None
        except _BrokenError as error:
            raise NoAnswerError(str(error)) from None

    async def _ask_once(self, request: bytes, stream: trio.SocketStream | None) -> str:
        if stream is None:
            stream = await self._connect()
            self._open += 1
        kept = False
        try:
            action = await _exchange(stream, request)
            kept = not self._closed
        except AnswerError as error:
            self.figures.record_invalid()
            raise NoAnswerError(f"the answer cannot be applied: {error}") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _BrokenError(f"the connection broke: {error.__cause__ or error}") from None
        finally:
            if kept:
                self._idle.append(_Idle(stream, trio.current_time()))
            else:
                self._drop(stream)
        return action

    async def _connect(self) -> trio.SocketStream:
        if self._address.path:
            return await connect_unix_socket(self._address.path)
        return await trio.open_tcp_stream(self._address.host, self._address.port)

    def _take_idle(self) -> trio.SocketStream | None:
        """Return the connection that was used last, if one is usable; close those that are not."""
        now = trio.current_time()
        while self._idle and now - self._idle[0].since > _MAX_IDLE:
            self._drop(self._idle.pop(0).stream)
        while self._idle:
            stream = self._idle.pop().stream
            if not is_readable(stream):
                return stream
            self._drop(stream)  # it has ended, or says what nobody asked for
        return None

    def _drop(self, stream: trio.SocketStream) -> None:
        self._open -= 1
        stream.socket.close()

    def close(self) -> None:
        """Close the connections that are idle, and keep none from now on."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop().stream)

    def status(self) -> dict[str, Any]:
        """Return the figures as a group of deciders has them; ``deciders`` are open connections."""
        return self.figures.status(self._open, self._waiting)


async def _exchange(stream: trio.SocketStream, request: bytes) -> str:
    await stream.send_all(request)
    reader = AnswerReader()
    while True:
        data = await stream.receive_some(_READ)
        if not data:
            raise _BrokenError(f"the connection ended {'within' if reader.begun else 'without'} an answer")
        action = reader.receive_data(data)
        if action is not None:
            return action
