"""One connection to a milter, which belongs to one SMTP session: it carries the steps, each within its time."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal

import trio

from triosmtp.config import FilterAddress
from triosmtp.errors import connect_failure
from triosmtp.filters.milter_codec import Change, MilterError, Progress, Verdict
from triosmtp.filters.milter_session import MilterSession, Step
from triosmtp.filters.readable import is_readable
from triosmtp.sockets.unix_client import connect_unix_socket

__all__ = ["CONTINUE", "MilterFailureError", "MilterLink"]

CONTINUE: Final = Verdict("continue")
_READ: Final = 65_536
_GATHERED: Final = 65_536  # octets of steps without an answer that wait for one with an answer


class MilterFailureError(Exception):
    """The milter cannot be asked; the text says why.

    ``kind`` is ``broken`` if the connection broke, ``timeout``, or ``invalid`` if it said what it may not say.
    """

    def __init__(self, kind: Literal["broken", "timeout", "invalid"], reason: str) -> None:
        self.kind: Literal["broken", "timeout", "invalid"] = kind
        super().__init__(reason)


class MilterLink:
    """A connection to a milter.  After a :class:`MilterFailureError` it is closed."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []
        self._gathered = 0
        self.session = MilterSession()
        self.closed = False

    @classmethod
    async def open(cls, address: FilterAddress, seconds: float) -> "MilterLink":
        """Connect and negotiate.

        :raises MilterFailureError: if there is no milter, or none that this side can talk to.
        """
        with trio.move_on_after(seconds):
            try:
                if address.path:
                    stream = await connect_unix_socket(address.path)
                else:
                    stream = await trio.open_tcp_stream(address.host, address.port)
            except OSError as error:
                raise MilterFailureError("broken", f"cannot connect to {address}: {connect_failure(error)}") from None
            link = cls(stream)
            try:
                with link._as_failure():
                    await stream.send_all(link.session.negotiate())
                    while link.session.options is None:
                        link.session.receive_data(await link._receive())
            except BaseException:
                link.drop()
                raise
            return link
        raise MilterFailureError("timeout", f"timed out after {seconds:g} s")

    async def step(
        self,
        step: Step,
        data: bytes,
        macro: Callable[[str], str | None],
        seconds: float,
        *,
        deadline: float,
        on_change: Callable[[Change], Awaitable[None]] | None = None,
    ) -> Verdict:
        """Send a step, if the milter wants it, and return its verdict.

        It has ``seconds`` from its beginning, and again after each sign of progress, but not beyond ``deadline`` on
        Trio's clock.  ``on_change`` is called with each change.

        :raises MilterFailureError: if there is no verdict.
        """
        if not self.session.wants(step):
            return CONTINUE
        try:
            octets = self.session.begin(step, data, macro)
            self._unsent.append(octets)
            self._gathered += len(octets)
            if not self.session.awaits and self._gathered < _GATHERED:
                return CONTINUE
            with trio.CancelScope(deadline=min(trio.current_time() + seconds, deadline)) as scope:
                return await self._exchange(scope, seconds, deadline, on_change)
            raise MilterFailureError("timeout", f"timed out after {seconds:g} s at the step {step.value}")
        except BaseException:
            self.drop()
            raise

    async def _exchange(
        self,
        scope: trio.CancelScope,
        seconds: float,
        deadline: float,
        on_change: Callable[[Change], Awaitable[None]] | None,
    ) -> Verdict:
        with self._as_failure():
            if is_readable(self._stream):  # it has ended, or says what nobody asked for
                await self._receive()
                raise MilterError("an answer without a question")
            octets, self._unsent, self._gathered = b"".join(self._unsent), [], 0
            await self._stream.send_all(octets)
            while self.session.awaits:
                for answer in self.session.receive_data(await self._receive()):
                    if isinstance(answer, Verdict):
                        if answer.word == "conn_fail":
                            raise MilterFailureError("broken", "the milter wants the connection to fail")
                        return answer
                    scope.deadline = min(trio.current_time() + seconds, deadline)
                    if not isinstance(answer, Progress) and on_change is not None:
                        await on_change(answer)
        return CONTINUE

    async def _receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(_READ))
        if not data:
            raise MilterFailureError("broken", "the milter closed the connection")
        return data

    @staticmethod
    def _as_failure() -> "_AsFailure":
        return _AsFailure()

    def abort(self) -> None:
        """End the message before its time."""
        self._unsent.append(self.session.abort())

    def close(self) -> None:
        """Send QUIT, and close the connection.  It does not wait."""
        if not self.closed:
            with suppress(OSError):  # the milter does not read, or has gone
                os.write(self._stream.socket.fileno(), self.session.quit())
            self.drop()

    def drop(self) -> None:
        """Close the connection.  May be called again."""
        self.closed = True
        self._stream.socket.close()


class _AsFailure:
    """Makes a failure of errors of the connection and of the protocol."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
            raise MilterFailureError("broken", f"the connection broke: {error.__cause__ or error}") from None
        if isinstance(error, MilterError):
            raise MilterFailureError("invalid", f"the answer cannot be applied: {error}") from None
