"""Takes messages from a stream for ``triosmtp consume``, and settles them.

A message is taken only if there is a free place for it, and stays the consumer's until it is settled: acknowledged,
given back for a later attempt, or terminated.  It may be settled on a later connection than it came by.

Everything here runs in the thread of :class:`~triosmtp.jetstream.nats_thread.NATSThread`.
"""

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

import nats.errors
from attrs import frozen
from nats.aio.msg import Msg

from triosmtp.jetstream.nats_client import ConnectionLostError, NATSConnection, NATSLogin, NoRespondersError
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_publisher import StreamPublisher
from triosmtp.jetstream.stream_query import ask, query_consumer, query_kv

__all__ = ["ACK_WAIT", "ConsumerSource", "ObjectMissingError", "TakenMessage"]

_log = logging.getLogger("triosmtp.consume")

ACK_WAIT: Final = 20.0
"""The least ack_wait of the consumer; progress is signalled three times as often."""
_FETCH: Final = 30.0
_CHECK_INTERVAL: Final = 5.0
"""Seconds until a consumer with wrong settings is asked about again."""
_SETTLE_SECONDS: Final = 30.0
_ATTEMPT: Final = 5.0
_MAX_CHUNKS: Final = 1 << 20


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

    @property
    def name(self) -> str:
        """The last token of the subject."""
        return self.subject.rpartition(".")[2]


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
        on_message: Callable[[TakenMessage], None],
    ) -> None:
        super().__init__(address, login)
        self._consumer = consumer
        self._bucket = bucket
        self._max_messages = max_messages
        self._on_message = on_message
        self._places: asyncio.Semaphore | None = None
        self._stopped = False
        self._writes = 0
        self.problems: tuple[str, ...] = ()
        """The problems of the consumer and of the bucket of results."""

    async def _serve(self, connection: NATSConnection) -> None:
        tasks = [asyncio.ensure_future(each) for each in (super()._serve(connection), self._pull(connection))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _pull(self, connection: NATSConnection) -> None:
        await self._wait_until_right(connection)
        places = self._places = self._places or asyncio.Semaphore(self._max_messages)
        context = connection.client.jetstream(timeout=_ATTEMPT)
        subscription = await context.pull_subscribe_bind(self._consumer, self.address.stream)
        while True:
            await places.acquire()
            try:
                (message,) = await subscription.fetch(1, timeout=_FETCH)
            except nats.errors.TimeoutError:
                places.release()
            except BaseException:
                places.release()
                raise
            else:
                if self._stopped:
                    await self.settle(_taken(message), b"-NAK")
                    await asyncio.Event().wait()
                self._on_message(_taken(message))

    async def _wait_until_right(self, connection: NATSConnection) -> None:
        while True:
            try:
                problems = await query_consumer(connection, self.address, self._consumer, ACK_WAIT)
                problems += await query_kv(connection, self._bucket, self.address.replicas)
            except NATSUnavailableError as error:
                problems = (str(error),)
            for problem in problems if problems != self.problems else ():
                _log.error("%s: nothing is taken: %s", self.address, problem)
            self.problems = problems
            if not problems:
                _log.info("%s: messages are taken by the consumer %s", self.address, self._consumer)
                return
            await asyncio.sleep(_CHECK_INTERVAL)

    def stop_taking(self) -> None:
        """Take no further message."""
        self._stopped = True

    def free_place(self) -> None:
        """Let the next message be taken."""
        if self._places is not None:
            self._places.release()

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

    async def signal_progress(self, message: TakenMessage) -> None:
        """Extend the time in which the message must be settled."""
        connection = await self.thread.connection(_ATTEMPT)
        await connection.client.publish(message.reply, b"+WPI")

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
        """Return the subject of a key of the bucket of results."""
        return f"$KV.{self._bucket}.{name}"

    @staticmethod
    def value_of(message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of a key; an empty one if it is deleted, or malformed."""
        try:
            value = json.loads(base64.b64decode(message.get("data") or ""))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    async def write_results(self, name: str, results: Mapping[str, Any]) -> None:
        """Write the results of a message.

        :raises PublishError: if they are not stored.
        """
        await self.put_result(name, json.dumps(results).encode(), {})

    async def delete_results(self, name: str) -> None:
        """Delete the results of a message.

        :raises PublishError: if that is not stored.
        """
        await self.put_result(name, b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"})

    async def put_result(self, name: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Write a key of the bucket of results.

        :raises PublishError: if it is not stored.
        """
        self._writes += 1
        subject, unique = self.results_subject(name), f"{self.thread.id}.{self._writes}"
        await self.publish(subject, value, unique, self.results_stream, self.address.deadline, headers=headers)

    # Objects

    async def read_object(self, name: str, target: BinaryIO) -> None:
        """Write the octets of an object to ``target``.

        :raises ObjectMissingError: if there is no such object, or a part of it is missing.
        :raises NATSUnavailableError: if it cannot be read now.
        """
        loop, bucket = asyncio.get_running_loop(), self.address.bucket
        meta = await self.last_message(f"OBJ_{bucket}", f"$O.{bucket}.M.{_key(name)}")
        try:
            info = json.loads(base64.b64decode(meta["data"])) if meta is not None else None
            chunks = int(info["chunks"]) if info is not None else -1
        except (ValueError, KeyError, TypeError):
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
            await loop.run_in_executor(None, target.write, base64.b64decode(found["message"].get("data") or ""))

    async def delete_object(self, name: str) -> None:
        """Delete an object with all of its parts.

        :raises NATSUnavailableError: if that is not possible now.
        """
        bucket = self.address.bucket
        for subject in (f"$O.{bucket}.C.{name}", f"$O.{bucket}.M.{_key(name)}"):
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
    return TakenMessage(message.subject, message.data, message.reply, message.metadata.num_delivered)


def _key(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()
