"""One message at a next hop: its recipients are asked for at RCPT, and the whole is delivered after the body.

The transaction that was opened at RCPT is used for the delivery only if it equals the plan: the same MAIL, and the same
accepted recipients in the same order.  Otherwise it is opened again, and also if its connection was released or has
ended meanwhile.  That happens once.  From the moment in which the hop may have the complete message nothing is tried
again here: the client receives 451 if the answer is missing.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import trio

from triosmtp.delivery import DeliveryTransaction, RecipientResult
from triosmtp.limits.peer_count import peer_key
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.message.spool import SpoolError
from triosmtp.message.trace import separator
from triosmtp.next_hop.hop import Hop
from triosmtp.next_hop.hop_answer import is_our_fault, result_of
from triosmtp.next_hop.hop_client import xclient_lines, xforward_lines
from triosmtp.next_hop.hop_connection import HopConnection, Transaction
from triosmtp.next_hop.hop_error import HopError
from triosmtp.next_hop.hop_parameters import lacking, mail_line, rcpt_line
from triosmtp.smtp.client_command import CommandLineError
from triosmtp.smtp.client_connection import END_OF_DATA
from triosmtp.smtp.reply_parser import ReceivedReply

__all__ = ["HopTransaction"]

_T = TypeVar("_T")

_NO_8BIT: Final = RecipientResult(554, "5.6.3", "The next server does not accept 8-bit messages")


class HopTransaction(DeliveryTransaction):
    """One message of one client; ``envelope`` is that of the client."""

    def __init__(self, hop: Hop, envelope: Envelope, origin: Origin | None) -> None:
        self._hop = hop
        self._envelope = envelope
        self._origin = origin
        address = None if origin is None else origin.address
        self._peer = peer_key(address) if address is not None else self

    async def verify(self, recipient: Recipient) -> RecipientResult:
        """Ask for ``recipient`` in the open transaction, or in a new one."""
        began = trio.current_time()
        try:
            result = await self._attempt(partial(self._ask, recipient))
        except HopError as error:
            return self._hop.failed(error)
        self._hop.answered(began)
        return result

    async def deliver_each(self, message: Message) -> Sequence[RecipientResult]:
        """Deliver ``message`` in the open transaction if it fits, else in a new one."""
        began = trio.current_time()
        try:
            results = await self._attempt(partial(self._deliver, message))
        except HopError as error:
            return [self._hop.failed(error)] * len(message.envelope.recipients)
        if not any(isinstance(each, HopError) for each in results):
            self._hop.answered(began)
        return [self._hop.failed(each) if isinstance(each, HopError) else each for each in results]

    def close(self) -> None:
        """Release the connection on which the transaction is open."""
        self._hop.pool.disown(self)

    async def _attempt(self, step: Callable[[HopConnection], Awaitable[_T]]) -> _T:
        """Run a step on a connection; if the connection was used before and has ended, once more on a new one.

        :raises HopError: if neither works.
        """
        connection: HopConnection | None = None
        was_used = False
        try:
            async with self._hop.pool.use(self, self._peer) as connection:
                was_used = not connection.is_fresh
                return await step(connection)
        except HopError as error:
            if not (error.gone and was_used) or connection is None or connection.is_committed:
                raise
        async with self._hop.pool.use(self, self._peer, fresh=True) as connection:
            return await step(connection)

    # At RCPT

    async def _ask(self, recipient: Recipient, connection: HopConnection) -> RecipientResult:
        extensions = connection.client.extensions
        lack = lacking(extensions, self._envelope, [recipient], secure=connection.is_verified)
        if lack is not None:
            return lack
        line = _line(recipient)
        opened = self._opened(connection)
        if opened is not None:
            (reply,) = await connection.run([line])
        else:
            mail = partial(mail_line, envelope=self._envelope)
            sender, replies = await self._begin(connection, mail, [line])
            if sender.code >= 300:
                return self._result(sender, "MAIL")
            (reply,) = replies
            opened = connection.transaction
        if reply.code < 300 and opened is not None:
            opened.recipients.append(line)
        return self._result(reply, "RCPT")

    def _opened(self, connection: HopConnection) -> Transaction | None:
        return connection.transaction if connection.owner is self else None

    def _result(self, reply: ReceivedReply, step: str) -> RecipientResult:
        if is_our_fault(reply, step):
            raise HopError(f"{self._hop.settings.name}: {step}: {reply}")
        return result_of(reply, step, self._hop.settings.name)

    async def _begin(
        self, connection: HopConnection, mail: Callable[..., bytes], recipients: list[bytes]
    ) -> tuple[ReceivedReply, list[ReceivedReply]]:
        """Open the transaction at the hop; return the replies to MAIL and RCPT.

        ``mail`` returns MAIL for the extensions of the hop, which XCLIENT may change.
        """
        connection.transaction = None
        connection.is_fresh = connection.is_committed = False
        if self._hop.settings.xclient and self._origin is not None and connection.announced is not self._origin:
            await self._announce_client(connection, self._origin)
        extensions = connection.client.extensions
        before = [b"RSET\r\n"] if connection.is_dirty else []
        if self._origin is not None and "XFORWARD" in extensions:
            before += xforward_lines(extensions, self._origin)
        try:
            line = mail(extensions)
        except CommandLineError as error:
            raise HopError(f"{connection}: {error}") from None
        replies = await connection.run([*before, line, *recipients])
        if connection.is_dirty and replies[0].code != 250:
            raise HopError(f"{connection}: RSET: {replies[0]}")
        connection.is_dirty = True
        sender, *found = replies[len(before) :]
        if sender.code < 300:
            connection.transaction = Transaction(line)
        return sender, found

    async def _announce_client(self, connection: HopConnection, origin: Origin) -> None:
        """Send XCLIENT, after which the hop begins again with its banner (XCLIENT_README of Postfix).

        Postfix then judges the right to use XCLIENT by the announced client: the connection serves that one alone.
        """
        await connection.reset()
        lines = xclient_lines(connection.client.extensions, origin)
        if not lines:
            raise HopError(f"{connection}: XCLIENT = true, and the hop does not offer XCLIENT to this host")
        for line in lines:
            reply = await connection.command(line)
            if reply.code != 220:
                raise HopError(f"{connection}: XCLIENT: {reply}")
        await self._hop.connector.introduce(connection)
        connection.announced = None if "XCLIENT" in connection.client.extensions else origin

    # After the body

    async def _deliver(self, message: Message, connection: HopConnection) -> list[RecipientResult | HopError]:
        envelope, body = message.envelope, message.body
        size = len(message.trace) + len(separator(body.head)) + body.size
        extensions, secure = connection.client.extensions, connection.is_verified
        lack = lacking(extensions, envelope, envelope.recipients, secure=secure, size=size)
        if lack is None and "8BITMIME" not in extensions and not _is_binary(envelope) and not await _is_ascii(message):
            lack = _NO_8BIT
        if lack is not None:
            return [lack] * len(envelope.recipients)
        lines = [_line(each) for each in envelope.recipients]
        opened = self._opened(connection)
        refused: list[RecipientResult | None] = [None] * len(lines)
        if opened is None or opened.recipients != lines or opened.mail != self._mail(connection, envelope):
            refused = await self._open_anew(message, size, lines, connection)
        connection.transaction = None
        if None not in refused:
            return [each for each in refused if each is not None]
        async with aclosing(_chunks(message)) as chunks:
            answers = await connection.send_message(chunks, size if _is_binary(envelope) else None)
        connection.is_dirty = False
        if not connection.client.lmtp:
            answers *= refused.count(None)
        found = (each if isinstance(each, HopError) else self._final(each) for each in answers)
        return [next(found) if each is None else each for each in refused]

    def _mail(self, connection: HopConnection, envelope: Envelope) -> bytes:
        try:
            return mail_line(connection.client.extensions, envelope)
        except CommandLineError:
            return b""  # the next attempt raises it again

    async def _open_anew(
        self, message: Message, size: int, lines: list[bytes], connection: HopConnection
    ) -> list[RecipientResult | None]:
        """Open the transaction by the plan; return the result of each recipient that was refused."""
        elapsed = max(int((datetime.now(UTC) - message.received).total_seconds()), 0)
        mail = partial(mail_line, envelope=message.envelope, size=size, elapsed=elapsed)
        sender, replies = await self._begin(connection, mail, lines)
        if sender.code >= 300:
            return [self._result(sender, "MAIL")] * len(lines)
        return [None if reply.code < 300 else self._result(reply, "RCPT") for reply in replies]

    def _final(self, reply: ReceivedReply) -> RecipientResult | HopError:
        try:
            return self._result(reply, END_OF_DATA)
        except HopError as error:
            return error.with_traceback(None)


def _line(recipient: Recipient) -> bytes:
    try:
        return rcpt_line(recipient)
    except CommandLineError as error:
        raise HopError(str(error)) from None


def _is_binary(envelope: Envelope) -> bool:
    return envelope.parameters.get("BODY") == "BINARYMIME"


async def _chunks(message: Message) -> AsyncGenerator[bytes, None]:
    """Yield the octets of the message.

    :raises HopError: if the spool cannot be read.
    """
    yield message.trace + separator(message.body.head)
    try:
        async with aclosing(message.body.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
    except SpoolError as error:
        raise HopError(str(error)) from None


async def _is_ascii(message: Message) -> bool:
    async with aclosing(_chunks(message)) as chunks:
        async for chunk in chunks:
            if not chunk.isascii():
                return False
    return True
