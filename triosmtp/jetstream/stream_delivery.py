"""Delivery to a stream of JetStream: the client gets 250 when the stream has acknowledged the message."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Final

import trio

from triosmtp.delivery import Delivery, DeliveryError, TargetHealth
from triosmtp.jetstream.message_codec import DOCUMENT_SPACE, encode_message, encode_reference
from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.power_failure import report_power_failures
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_publisher import PublishError, StreamPublisher
from triosmtp.jetstream.stream_query import StreamFacts
from triosmtp.message import Message
from triosmtp.message.envelope_document import ObjectReference
from triosmtp.message.spool import SpoolError
from triosmtp.message.trace import separator

__all__ = ["StreamDelivery"]

_MAX_INLINE: Final = 1 << 20
"""The octets of the largest payload, also if the server accepts more: each is in memory."""
_MAX_MESSAGES: Final = 64
"""Messages that wait for their acknowledgement at the same time."""
_MAX_OBJECTS: Final = 8
"""Messages that are stored as objects at the same time."""
_FACTS_WAIT: Final = 5.0


class StreamDelivery(Delivery):
    """Publishes each message under the subject of ``address``, a dot and the id of the message.

    A message that does not fit into the maximum payload is first stored in the object bucket, complete and with its
    digest.  Then a message that names the object is published.

    ``node`` is the Node_Name.  Nothing is opened before :meth:`start` or the first message.
    """

    honours = frozenset({"MT-PRIORITY"})

    def __init__(
        self,
        address: StreamAddress,
        login: NATSLogin,
        node: str,
        health: TargetHealth | None = None,
        monitors: tuple[str, ...] = (),
    ) -> None:
        self.address = address
        self._node = node
        self._health = health or TargetHealth(str(address))
        self._monitors = monitors
        self._publisher = StreamPublisher(address, login)
        self._messages = trio.CapacityLimiter(_MAX_MESSAGES)
        self._objects = trio.CapacityLimiter(_MAX_OBJECTS)

    async def run(self) -> None:
        """Connect, ask the stream about itself, and keep the health of the target true.

        Until the stream has answered, the server is not ready: nobody knows yet whether mail can be stored.  After a
        reload that is known, if the target is the same.
        """
        if not self._health.is_adopted:
            self._health.ready = False
        token = trio.lowlevel.current_trio_token()
        self._publisher.on_change = partial(_run_soon, token, self._note_change)
        with suppress(NATSUnavailableError):
            await self.query()
        self._note_change()
        await report_power_failures(str(self), self._monitors)
        await trio.sleep_forever()

    async def find_problems(self) -> Sequence[str]:
        """Return what is wrong with the stream and its object bucket."""
        try:
            return (await self.query()).problems
        except NATSUnavailableError:
            return ()

    async def probe(self) -> str:
        """Return why no mail can be delivered now."""
        try:
            await self.query()
        except NATSUnavailableError as error:
            return str(error)
        return self.failure

    def _note_change(self) -> None:
        if failure := self.failure:
            self._health.failed(failure)
        else:
            self._health.succeeded()

    @property
    def failure(self) -> str:
        """Why no mail can be delivered now, ``""`` if it can."""
        return self._publisher.failure

    async def query(self) -> StreamFacts:
        """Return what the stream says about itself.

        :raises NATSUnavailableError: if it does not answer within some seconds.
        """
        return await self._publisher.thread.call(self._publisher.wait_for_facts, _FACTS_WAIT)

    async def deliver(self, message: Message) -> str:
        """Publish ``message``; return its place in the stream.

        :raises DeliveryError: if it is not acknowledged in time; with ``storage`` set, if the stream is full.
        """
        began = trio.current_time()
        try:
            facts = self._publisher.facts or await self.query()
            if facts.problems:
                raise DeliveryError(f"{self}: {'; '.join(facts.problems)}")
            place = await self._publish(message, facts)
        except (NATSUnavailableError, PublishError) as error:
            self._health.failed(str(error))
            raise DeliveryError(str(error), storage=isinstance(error, PublishError) and error.full) from None
        except (SpoolError, OSError) as error:
            raise DeliveryError(f"{self}: {error}", storage=True) from None
        self._health.succeeded(trio.current_time() - began)
        return place

    async def _publish(self, message: Message, facts: StreamFacts) -> str:
        most = min(facts.max_message, _MAX_INLINE) - DOCUMENT_SPACE
        if len(message.trace) + message.body.size < most:
            await self._take_turn(self._messages)
            try:
                octets = _head_of(message) + await message.body.part(0, message.body.size)
                payload = encode_message(message, self._node, octets)
                if len(payload) <= most:
                    return await self._publish_payload(message, payload)
            finally:
                self._messages.release()
        await self._take_turn(self._objects)
        try:
            return await self._publish_payload(message, await self._store_object(message, facts))
        finally:
            self._objects.release()

    async def _publish_payload(self, message: Message, payload: bytes) -> str:
        address, publisher, name = self.address, self._publisher, _name_of(message)
        return await publisher.thread.call(
            publisher.publish, f"{address.subject}.{name}", payload, name, address.stream, address.deadline
        )

    async def _store_object(self, message: Message, facts: StreamFacts) -> bytes:
        """Store the octets of ``message`` as an object, and return the payload that names it.

        :raises DeliveryError: if that payload, which has the envelope and both contexts, would not fit.
        """
        publisher, reference = self._publisher, ObjectReference(self.address.bucket, _name_of(message))
        size, most = len(_head_of(message)) + message.body.size, facts.max_message - DOCUMENT_SPACE
        needed = len(encode_reference(message, self._node, size, "0" * 64, reference))
        if needed > most:
            raise DeliveryError(f"{self}: the envelope and the contexts have {needed} octets, and {most} fit")
        size, sha256 = await publisher.thread.call(
            publisher.put_object, reference.name, _Source(message), facts.max_part - DOCUMENT_SPACE,
            self.address.deadline,
        )  # fmt: skip
        return encode_reference(message, self._node, size, sha256, reference)

    async def _take_turn(self, limiter: trio.CapacityLimiter) -> None:
        try:
            limiter.acquire_nowait()
        except trio.WouldBlock:
            try:
                with trio.fail_after(self.address.deadline):
                    await limiter.acquire()
            except trio.TooSlowError:
                raise DeliveryError(f"{self}: too many messages wait for their acknowledgement") from None

    async def aclose(self) -> None:
        """End the connection."""
        await self._publisher.thread.aclose()

    def __str__(self) -> str:
        return str(self.address)


def _head_of(message: Message) -> bytes:
    """Return what goes before the body."""
    return message.trace + separator(message.body.head)


def _name_of(message: Message) -> str:
    """Return the last token of the subject.  Parts of a message have one id, and the stream would keep only one."""
    return f"{message.id}-{message.part}" if message.part else message.id


def _run_soon(token: trio.lowlevel.TrioToken, function: Callable[[], None]) -> None:
    """Run ``function`` in the thread of Trio."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(function)


class _Source:
    """Reads the header fields and the body of a message.  It blocks."""

    def __init__(self, message: Message) -> None:
        self._trace = _head_of(message)
        self._body: BinaryIO = message.body.open()

    def read(self, size: int) -> bytes:
        """Return up to ``size`` octets, ``b""`` at the end."""
        if self._trace:
            part, self._trace = self._trace[:size], self._trace[size:]
            return part
        return self._body.read(size)

    def close(self) -> None:
        """Close the reader of the body."""
        self._body.close()
