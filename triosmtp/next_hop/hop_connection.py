"""One connection to a next hop: commands and replies with their time-outs, and the message.

A connection on which anything unexpected happened raises :class:`HopError`, and is not used again: a late answer never
meets another question.
"""

import select
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing, suppress
from typing import Final, Protocol

import trio
from attrs import define, field

from triosmtp.next_hop.hop_error import HopError
from triosmtp.next_hop.hop_settings import HopAddress, HopTimeouts
from triosmtp.smtp.client_connection import BANNER, CLOSING, END_OF_DATA, ClientConnection
from triosmtp.smtp.reply_parser import ReceivedReply, ReplyError

__all__ = ["HopConnection", "HopStream", "Transaction"]

_READ: Final = 4096
_GROUP: Final = 50
"""Commands that are sent before their replies are read, so that neither end waits for the other."""
_PIECE: Final = 65536
_MAX_REFUSALS: Final = 8
"""Refusals since the last message after which a connection is not used again.

Postfix delays each reply after ten errors in a session, and ends it after twenty: a client that guesses
recipients would slow down the mail of others.
"""
_SERVICE_CLOSING: Final = 421
_START_DATA: Final = 354
_QUIT: Final = 0.5  # seconds for QUIT, until the hop has closed the connection


class HopStream(Protocol):
    """The stream of a connection, with or without TLS."""

    async def send_all(self, data: bytes) -> None:
        """Send."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""


@define(slots=True)
class Transaction:
    """A transaction that is open at the hop: the commands that it accepted."""

    mail: bytes
    recipients: list[bytes] = field(factory=list)


class HopConnection:
    """One connection: TCP or a Unix socket (``transport``), and the ``stream`` over it, which TLS may replace."""

    def __init__(self, transport: trio.SocketStream, address: HopAddress, timeouts: HopTimeouts) -> None:
        self.transport = transport
        self.stream: HopStream = transport
        self.address = address
        self.client = ClientConnection(lmtp=address.lmtp)
        self.is_encrypted = False
        self.is_verified = False
        """Whether the certificate of the hop was checked, and is the expected one."""
        self.is_fresh = True
        """Whether it was just opened: no transaction has begun on it, and it was never idle."""
        self.is_closing = False
        """Whether it must not be used again, although nothing went wrong."""
        self.deliveries = 0
        self.is_dirty = False
        """Whether a transaction may be open at the hop, so that RSET is due before the next one."""
        self.transaction: Transaction | None = None
        """The open transaction."""
        self.is_committed = False
        """Whether the hop may have the complete message of the latest :meth:`send_message`."""
        self.announced: object = None
        """The client that XCLIENT announced, if the hop takes no other one on this connection."""
        self.owner: object = None
        """The transaction that the open one belongs to; None if nobody will continue it."""
        self.idle_since = 0.0
        self._refusals = 0
        self._seconds = {
            BANNER: timeouts.ehlo, "EHLO": timeouts.ehlo, "LHLO": timeouts.ehlo, "STARTTLS": timeouts.ehlo,
            "RCPT": timeouts.rcpt, "DATA": timeouts.body, END_OF_DATA: timeouts.body,
        }  # fmt: skip
        self._mail_seconds = timeouts.mail

    def __str__(self) -> str:
        return str(self.address)

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin: the hop has said nothing unasked, and the bounds are kept."""
        said_more = self.client.has_more or self.client.outstanding or getattr(self.stream, "has_more", False)
        return not (self.is_closing or said_more or self._refusals >= _MAX_REFUSALS)

    def has_ended(self) -> bool:
        """Return whether the hop closed the connection, or sent what nobody asked for, while it was idle."""
        poll = select.poll()
        poll.register(self.transport.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # Commands and replies.

    async def read(self) -> ReceivedReply:
        """Read one reply.

        :raises HopError: if none comes in time, it is malformed, or it announces the end (421).
        """
        step = self.client.next_step
        found = self._next_reply()
        if found is None:  # else it came together with the one before
            with trio.move_on_after(self._limit_of(step)):
                found = await self._wait_for_reply()
        return self._checked(step, found)

    def _limit_of(self, step: str) -> float:
        return self._seconds.get(step, self._mail_seconds)

    async def _wait_for_reply(self) -> tuple[str, ReceivedReply]:
        """Wait for the next reply; the deadline is that of the caller's cancel scope."""
        step = self.client.next_step
        while (found := self._next_reply()) is None:
            self.client.receive_data(await self._receive(step))
        return found

    def _checked(self, step: str, found: tuple[str, ReceivedReply] | None) -> ReceivedReply:
        if found is None:
            raise HopError(f"{self}: {step}: no reply in time")
        step, reply = found[0], found[1].shortened()  # those of all recipients are kept, and logged
        if reply.code == _SERVICE_CLOSING or step == CLOSING:
            raise HopError(f"{self}: {step}: {reply}", gone=True)
        self._refusals += reply.code >= 400
        return reply

    def _next_reply(self) -> tuple[str, ReceivedReply] | None:
        step = self.client.next_step
        try:
            return self.client.next_reply()
        except ReplyError as error:
            raise HopError(f"{self}: {step}: {error}") from None

    async def _receive(self, step: str) -> bytes | bytearray:
        try:
            data = await self.stream.receive_some(_READ)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HopError(f"{self}: {step}: the connection broke: {error.__cause__ or error}", gone=True) from None
        if not data:
            raise HopError(f"{self}: {step}: the connection was closed", gone=True)
        return data

    async def send(self, data: bytes) -> None:
        """Send octets.

        :raises HopError: if the connection is gone.
        """
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HopError(f"{self}: the connection broke: {error.__cause__ or error}", gone=True) from None

    async def response(self, line: bytes) -> ReceivedReply:
        """Send a line that answers a 334 of AUTH, and return the next reply.

        :raises HopError: see :meth:`read`.
        """
        await self.send(self.client.send_response(line))
        return await self.read()

    async def reset(self) -> None:
        """Send RSET, if a transaction may be open.

        :raises HopError: if the hop does not accept it.
        """
        self.transaction = None
        if self.is_dirty:
            reply = await self.command(b"RSET\r\n")
            if reply.code != 250:
                raise HopError(f"{self}: RSET: {reply}")
            self.is_dirty = False

    async def command(self, line: bytes) -> ReceivedReply:
        """Send one command and return its reply.

        :raises HopError: see :meth:`read`.
        """
        return (await self.run([line]))[0]

    async def run(self, lines: Sequence[bytes]) -> list[ReceivedReply]:
        """Send commands, and return their replies; pipelined if the hop offers that.

        Without pipelining a refused MAIL ends it: then there are fewer replies.

        :raises HopError: see :meth:`read`.
        """
        replies: list[ReceivedReply] = []
        size = _GROUP if self.client.pipelining else 1
        for start in range(0, len(lines), size):
            group = lines[start : start + size]
            data = b"".join(map(self.client.send, group))
            step, found = self.client.next_step, None
            with trio.move_on_after(self._limit_of(step)):
                await self.send(data)
                found = await self._wait_for_reply()
            replies.append(self._checked(step, found))
            if size == 1 and step == "MAIL" and not replies[-1].positive:
                break
            replies += [await self.read() for _ in group[1:]]
        return replies

    # The message.

    async def send_message(
        self, chunks: AsyncIterable[bytes], binary_size: int | None = None
    ) -> list[ReceivedReply | HopError]:
        """Send the message, and return the answers to it: one, or in LMTP one for each recipient that was accepted.

        ``binary_size`` is the size of a message that is sent by BDAT as it is, with its CRs and LFs (BINARYMIME).
        :attr:`is_committed` is then whether the hop may have the complete message.  If the connection fails after that,
        or the time is over, each answer that is missing is the error.

        :raises HopError: if it fails before.
        """
        self.is_committed = binary_size == 0
        count = self.client.accepted if self.client.lmtp else 1
        found: list[ReceivedReply | HopError] = []
        error = HopError(f"{self}: {END_OF_DATA}: no reply in time")
        with trio.move_on_after(self._seconds[END_OF_DATA]):
            try:
                await self._send_body(chunks, binary_size)
                while len(found) < count:
                    found.append(self._checked(END_OF_DATA, await self._wait_for_reply()))
            except HopError as caught:
                if not self.is_committed:
                    raise
                error = caught.with_traceback(None)
        if len(found) == count:
            self.deliveries += 1
            self._refusals = 0
        else:
            self.is_closing = True
        return [*found, *[error] * (count - len(found))]

    async def _send_body(self, chunks: AsyncIterable[bytes], binary_size: int | None) -> None:
        if binary_size is not None:
            await self.send(self.client.send_last_chunk(binary_size))
            await self._send_pieces(chunks)
            return
        await self.send(self.client.send(b"DATA\r\n"))
        reply = self._checked("DATA", await self._wait_for_reply())
        if reply.code != _START_DATA:
            raise HopError(f"{self}: DATA: {reply}")
        if self.client.has_more:  # it would be taken for the answer to the message
            raise HopError(f"{self}: DATA: more than one reply")
        async with aclosing(self._stuffed(chunks)) as stuffed:
            await self._send_pieces(stuffed)

    async def _stuffed(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield self.client.send_body(chunk)
        yield self.client.end_body()

    async def _send_pieces(self, chunks: AsyncIterable[bytes]) -> None:
        """Send all chunks; the last one, which makes the message complete, after :attr:`is_committed` is set."""
        last = b""
        async for chunk in chunks:
            last += chunk
            while len(last) > _PIECE:
                await self.send(last[:_PIECE])
                last = last[_PIECE:]
        self.is_committed = True
        await self.send(last)

    async def quit(self) -> None:
        """Send QUIT, and close when the hop has closed, or after 0.5 s: then the hop counts the connection no more."""
        try:
            with trio.move_on_after(_QUIT), suppress(HopError):
                await self.send(self.client.send(b"QUIT\r\n"))
                while True:
                    await self._receive("QUIT")
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        release = getattr(self.stream, "release", None)
        if release is not None:
            release()
        self.transport.socket.close()
