"""Takes messages from a stream for ``triosmtp consume``, and settles them.

A message is taken only if there is a free place for it, and is in hand until it is released.  Meanwhile progress is
signalled, so that the server does not deliver it to another consumer.  It is settled before it is released:
acknowledged, returned for a later attempt, or terminated.  That may be on a later connection than it came by.

Everything here runs in the thread of :class:`~triosmtp.jetstream.nats_thread.NATSThread`.
"""

import asyncio
import base64
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO, Final

import nats.errors
from attrs import frozen
from nats.aio.msg import Msg

from triosmtp.jetstream.message_puller import MessagePuller
from triosmtp.jetstream.nats_client import ConnectionLostError, NATSConnection, NATSLogin, NoRespondersError
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_publisher import NO_HEADERS, StreamPublisher
from triosmtp.jetstream.stream_query import ConsumerFacts, ask, query_consumer, query_kv

__all__ = ["ACK_WAIT", "ConsumerSource", "ObjectMissingError", "TakenMessage"]

_log = logging.getLogger("triosmtp.consume")

ACK_WAIT: Final = 20.0
"""The least ack_wait of the consumer; progress is signalled three times as often."""
_CHECK_INTERVAL: Final = 60.0
"""Seconds until the consumer and the bucket of results are asked about again."""
_WRONG_INTERVAL: Final = 5.0
"""The same if their settings are wrong."""
_PAUSE: Final = 0.5
"""Seconds after a request for messages that failed."""
_SETTLE_SECONDS: Final = 30.0
_ATTEMPT: Final = 5.0
_MAX_CHUNKS: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,160}").fullmatch


class ObjectMissingError(Exception):
    """The object that a message names does not exist, or is incomplete."""


@frozen(slots=True)
class TakenMessage:
    """A message of the stream."""

    subject: str
    payload: bytes
    reply: str
    """The subject by which it is settled."""
    attempt: int
    """How often it was delivered to a consumer, from 1 on."""
    sequence: int = 0
    """Its number in the stream."""
    stored: datetime | None = None
    """When the stream stored it."""

    @property
    def name(self) -> str:
        """The last token of the subject, which is the id of the message, and for a further part also its number.

        It becomes part of other subjects.  So a token that is none, such as ``*``, is replaced.
        """
        token = self.subject.rpartition(".")[2]
        return token if _NAME(token) else f"sequence-{self.sequence}"


class ConsumerSource(StreamPublisher):
    """Takes messages, at most ``max_messages`` at the same time, and calls ``on_message`` with each."""

    def __init__(
        self,
        address: StreamAddress,
        login: NATSLogin,
        *,
        consumer: str,
        bucket: str,
        max_messages: int,
        min_results_age: float = 0.0,
        failure_subject: str = "",
        on_message: Callable[[TakenMessage], None],
    ) -> None:
        super().__init__(address, login)
        self.consumer = consumer
        """The name of the durable consumer."""
        self._bucket = bucket
        self._max_messages = max_messages
        self._min_results_age = min_results_age
        self._failure_subject = failure_subject
        self._on_message = on_message
        self._in_hand: dict[int, TakenMessage] = {}
        self._released: asyncio.Event | None = None
        self._puller: MessagePuller | None = None
        self._stopped = False
        self._writes = 0
        self._is_full = False
        self.problems: tuple[str, ...] | None = None
        """The problems of the consumer and of the bucket of results; None: they have not answered yet."""

    async def _serve(self, connection: NATSConnection) -> None:
        works = (super()._serve(connection), self._take(connection), self._signal_progress(connection))
        tasks = [asyncio.ensure_future(each) for each in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # Taking

    async def _take(self, connection: NATSConnection) -> None:
        loop = asyncio.get_running_loop()
        puller = self._puller = MessagePuller(connection, self.address, self.consumer, self._receive)
        await puller.open()
        due = loop.time()
        while True:
            if loop.time() >= due:
                await self._wait_until_right(connection)
                due = loop.time() + _CHECK_INTERVAL
            places = await self._wait_for_places()
            status = "" if self._stopped else await puller.pull(places)
            if self._stopped:
                await asyncio.Event().wait()
            if status:
                _log.warning("%s: %s: %s", self.address, self.consumer, status)
                due = loop.time()
                await asyncio.sleep(_PAUSE)

    async def _wait_for_places(self) -> int:
        while (places := self._max_messages - len(self._in_hand)) <= 0:
            self._released = asyncio.Event()
            await self._released.wait()
        return places

    async def _receive(self, message: Msg) -> None:
        taken = _taken(message)
        if taken.sequence in self._in_hand:
            return  # the server lost the progress signals; what is under way settles it
        if self._stopped or len(self._in_hand) >= self._max_messages:  # an answer to a request that counted as lost
            await self._return(taken)
            return
        self._in_hand[taken.sequence] = taken
        self._on_message(taken)

    async def _wait_until_right(self, connection: NATSConnection) -> None:
        while True:
            try:
                facts = await query_consumer(connection, self.address, self.consumer, ACK_WAIT, self._failure_subject)
                problems = facts.problems
                problems += await query_kv(connection, self._bucket, self.address.replicas, self._min_results_age)
            except NATSUnavailableError as error:
                problems = (str(error),)
            else:
                self._note_full(facts)
            for problem in problems if problems != self.problems else ():
                _log.error("%s: nothing is taken: %s", self.address, problem)
            if not problems and problems != self.problems:
                _log.info("%s: messages are taken by the consumer %s", self.address, self.consumer)
            self.problems = problems
            if not problems:
                return
            await asyncio.sleep(_WRONG_INTERVAL)

    def _note_full(self, facts: ConsumerFacts) -> None:
        if facts.is_full and not self._is_full:
            _log.warning(
                "%s: %s: %d messages wait for their next attempt or are being delivered, and max_ack_pending lets no "
                "further one be taken",
                self.address, self.consumer, facts.pending,
            )  # fmt: skip
        self._is_full = facts.is_full

    def release(self, message: TakenMessage) -> None:
        """Let another message be taken: this one is settled, or left to ``ack_wait``."""
        self._in_hand.pop(message.sequence, None)
        if self._released is not None:
            self._released.set()

    async def stop_taking(self) -> None:
        """Take no further message.  Those that were under way have been taken, or returned, when this returns."""
        self._stopped = True
        if self._puller is not None:
            await self._puller.stop()

    async def return_all(self) -> None:
        """Return the messages in hand to the server, so that another consumer has them at once.

        :raises NATSUnavailableError: if there is no connection.
        """
        for message in tuple(self._in_hand.values()):
            await self._return(message)
        connection = await self.thread.connection(_ATTEMPT)
        with suppress(nats.errors.Error, OSError):
            await connection.client.flush()

    async def _return(self, message: TakenMessage) -> None:
        connection = await self.thread.connection(_ATTEMPT)
        with suppress(nats.errors.Error, OSError):
            await connection.client.publish(message.reply, b"-NAK")

    async def _signal_progress(self, connection: NATSConnection) -> None:
        """Extend the time in which the messages in hand must be settled, again and again."""
        while True:
            for message in tuple(self._in_hand.values()):
                try:
                    await connection.client.publish(message.reply, b"+WPI")
                except (nats.errors.Error, OSError) as error:
                    raise ConnectionLostError(f"the connection to NATS was lost: {error}") from None
            await asyncio.sleep(ACK_WAIT / 3)

    # Settling

    async def settle(self, message: TakenMessage, word: bytes) -> bool:
        """Send ``+ACK``, ``-NAK {…}`` or ``+TERM``, and return whether the server has confirmed it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE_SECONDS
        while (left := end - loop.time()) > 0:
            try:
                connection = await self.thread.connection(min(left, _ATTEMPT))
                await connection.request(message.reply, word, seconds=min(left, _ATTEMPT))
                return True
            except (TimeoutError, ConnectionLostError, NATSUnavailableError):
                await asyncio.sleep(0.2)
            except NoRespondersError:
                break  # it belongs to nobody any more
        _log.warning("%s: %s is not confirmed, so the message may be delivered again", message.subject, word.decode())
        return False

    # Results of recipients

    async def read_results(self, name: str) -> dict[str, Any]:
        """Return the results of a message that were written.

        :raises NATSUnavailableError: if they cannot be read.
        """
        found = await self.last_message(self.results_stream, self.results_subject(name))
        return {} if found is None else self.value_of(found)

    @property
    def results_stream(self) -> str:
        """The stream of the bucket of results."""
        return f"KV_{self._bucket}"

    def results_subject(self, name: str) -> str:
        """Return the subject of a key of the bucket of results.  Each durable consumer has its own keys."""
        return f"$KV.{self._bucket}.{self.consumer}.{name}"

    @staticmethod
    def value_of(message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of a key; an empty one if it is deleted, or malformed."""
        try:
            value = json.loads(base64.b64decode(message.get("data") or ""))
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    async def write_results(self, name: str, results: Mapping[str, Any]) -> None:
        """Write the results of a message.

        :raises PublishError: if they are not stored.
        """
        await self.put_result(name, json.dumps(results).encode())

    async def delete_results(self, name: str) -> None:
        """Delete the results of a message.  Nothing is left of the key, so that the bucket does not grow.

        :raises NATSUnavailableError: if that is not possible now.
        """
        await self.ask(f"STREAM.PURGE.{self.results_stream}", {"filter": self.results_subject(name)})

    async def put_result(self, name: str, value: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Write a key of the bucket of results.

        :raises PublishError: if it is not stored.
        """
        self._writes += 1
        subject, unique = self.results_subject(name), f"{self.thread.id}.{self._writes}"
        await self.publish(subject, value, unique, self.results_stream, self.address.deadline, headers=headers)

    # Objects

    async def read_object(self, name: str, size: int, target: BinaryIO) -> None:
        """Write the octets of an object to ``target``.

        :raises ObjectMissingError: if there is no such object, a part of it is missing, or it has more than ``size``
            octets.
        :raises NATSUnavailableError: if it cannot be read now.
        """
        loop, bucket = asyncio.get_running_loop(), self.address.bucket
        meta = await self.last_message(f"OBJ_{bucket}", f"$O.{bucket}.M.{_key(name)}")
        try:
            info = json.loads(base64.b64decode(meta["data"])) if meta is not None else None
            chunks = int(info["chunks"]) if info is not None else -1
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            chunks = -1
        if not 0 <= chunks <= _MAX_CHUNKS:
            raise ObjectMissingError(f"there is no object {name}")
        sequence = 1
        for _ in range(chunks):
            body = {"seq": sequence, "next_by_subj": f"$O.{bucket}.C.{name}"}
            found = await self.ask(f"STREAM.MSG.GET.OBJ_{bucket}", body)
            if found is None:
                raise ObjectMissingError(f"a part of the object {name} is missing")
            sequence = found["message"]["seq"] + 1
            part = base64.b64decode(found["message"].get("data") or "")
            size -= len(part)
            if size < 0:
                raise ObjectMissingError(f"the object {name} is larger than stated")
            await loop.run_in_executor(None, target.write, part)

    async def delete_object_of(self, message: TakenMessage, name: str) -> None:
        """Delete the object of a message that is acknowledged, unless another consumer of the stream may still need it.

        :raises NATSUnavailableError: if that is not possible now.
        """
        is_gone = self.facts is not None and self.facts.is_work_queue
        if is_gone or await self.last_message(self.address.stream, message.subject) is None:
            await self.delete_object(name)

    async def delete_object(self, name: str) -> None:
        """Delete an object with all of its parts.  The parts are the last: by them, the sweeper finds what is left.

        :raises NATSUnavailableError: if that is not possible now.
        """
        bucket = self.address.bucket
        for subject in (f"$O.{bucket}.M.{_key(name)}", f"$O.{bucket}.C.{name}"):
            await self.ask(f"STREAM.PURGE.OBJ_{bucket}", {"filter": subject})

    async def last_message(self, stream: str, subject: str) -> dict[str, Any] | None:
        """Return the last message of a subject, as the API describes it, or None.

        :raises NATSUnavailableError: if JetStream does not answer.
        """
        found = await self.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        return None if found is None else found["message"]

    async def ask(self, request: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the answer of the API of JetStream, or None if what was asked about does not exist.

        :raises NATSUnavailableError: if JetStream does not answer.
        """
        try:
            return await ask(await self.thread.connection(_ATTEMPT), request, body)
        except ConnectionLostError as error:
            raise NATSUnavailableError(str(error)) from None


def _taken(message: Msg) -> TakenMessage:
    facts = message.metadata
    sequence = facts.sequence.stream
    return TakenMessage(message.subject, message.data, message.reply, facts.num_delivered, sequence, facts.timestamp)


def _key(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()
