"""Publishes messages to a stream, each until it is acknowledged or its time is over.

While a stream has no leader, a publication gets no answer at all, and one that got none may be stored all the same.  So
each is sent again with the same ``Nats-Msg-Id``, which the stream stores once within its duplicate window.

Everything here runs in the thread of :class:`~triosmtp.jetstream.nats_thread.NATSThread`.
"""

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from triosmtp.jetstream.nats_client import (
    ConnectionLostError,
    NATSConnection,
    NATSLogin,
    NoRespondersError,
    PayloadTooLargeError,
)
from triosmtp.jetstream.nats_thread import NATSThread, NATSUnavailableError
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_query import StreamFacts, query_stream

__all__ = ["NO_HEADERS", "PublishError", "Source", "StreamPublisher"]

_log = logging.getLogger("triosmtp.nats")

_ATTEMPT: Final = 5.0
"""Seconds that one attempt may take."""
_CONNECT_WAIT: Final = 5.0
"""Seconds that a message waits for a connection."""
_PAUSE: Final = 0.25
"""Seconds before the next attempt after an answer that nobody can store it now."""
_QUERY_INTERVAL: Final = 60.0
_RETRY_INTERVAL: Final = 1.0
"""Seconds until the stream is asked again if it did not answer or is not usable."""
_NOT_ASKED: Final = "the stream has not answered yet"
NO_HEADERS: Final[Mapping[str, str]] = {}
_MAX_PART: Final = 128 * 1024
"""Octets of a part of an object, if no less fit into a message."""
_FULL: Final = frozenset({10077, 10047, 10023, 10028})
"""The errors of JetStream that mean that no space is left: store failed, storage, resources, memory."""
_TOO_LARGE: Final = 10054
"""The error of JetStream that a message has more octets than ``max_msg_size`` of the stream."""
_CONFLICT: Final = 409  # a publication with this Nats-Msg-Id is being stored


class PublishError(Exception):
    """A message was not acknowledged.  ``str()`` is the cause.

    ``full`` means that the stream has no space, ``too_large`` that it or the server stores no message of this size.
    """

    def __init__(self, reason: str, *, full: bool = False, too_large: bool = False) -> None:
        self.full = full
        self.too_large = too_large
        super().__init__(reason)


class Source(Protocol):
    """The octets of an object."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` octets, ``b""`` at the end.  It blocks."""

    def close(self) -> None:
        """Release what is open."""


class StreamPublisher:
    """Publishes to a stream, and asks the stream about itself: at each connection, and every minute."""

    def __init__(self, address: StreamAddress, login: NATSLogin) -> None:
        self.address = address
        self.thread = NATSThread(address.servers, login, self._serve)
        self.facts: StreamFacts | None = None
        """The last answer of the stream; None: it has never answered.  Any thread may read it."""
        self.on_change: Callable[[], None] = lambda: None
        """Called in the thread if :attr:`failure` may have changed."""
        self._failure = _NOT_ASKED
        self._answered: asyncio.Event | None = None

    @property
    def failure(self) -> str:
        """Why no mail can be published now, ``""`` if it can.  Any thread may read it."""
        facts = self.facts
        return self.thread.failure or self._failure or ("" if facts is None else "; ".join(facts.problems))

    async def _serve(self, connection: NATSConnection) -> None:
        try:
            while True:
                try:
                    facts = await query_stream(connection, self.address)
                except NATSUnavailableError as error:
                    self._note_failure(str(error))
                else:
                    self._note_facts(facts)
                await asyncio.sleep(_RETRY_INTERVAL if self.failure else _QUERY_INTERVAL)
        finally:
            self._failure = _NOT_ASKED
            self.on_change()

    def _note_failure(self, failure: str) -> None:
        if failure != self._failure:
            _log.warning("%s: %s", self.address, failure)
        self._failure = failure
        self.on_change()

    def _note_facts(self, facts: StreamFacts) -> None:
        if self.facts is None or facts.problems != self.facts.problems:
            for problem in facts.problems:
                _log.error("%s: mail is not accepted: %s", self.address, problem)
        self.facts, self._failure = facts, ""
        self.on_change()
        if self._answered is not None:
            self._answered.set()
            self._answered = None

    async def wait_for_facts(self, seconds: float) -> StreamFacts:
        """Return what the stream said last; if it has never answered, wait for that up to ``seconds``.

        :raises NATSUnavailableError: if it does not answer in time.
        """
        if self.facts is None:
            answered = self._answered = self._answered or asyncio.Event()
            try:
                await asyncio.wait_for(answered.wait(), seconds)
            except TimeoutError:
                raise NATSUnavailableError(f"{self.address}: {self.failure}") from None
        assert self.facts is not None
        return self.facts

    async def publish(
        self,
        subject: str,
        payload: bytes,
        message_id: str,
        stream: str | None,
        seconds: float,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        """Publish ``payload`` and return its place when ``stream`` has acknowledged it; give up after ``seconds``.

        None as ``stream`` is any stream that has the subject.

        :raises PublishError: if it is not acknowledged.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        sent = {**headers, "Nats-Msg-Id": message_id}
        if stream is not None:
            sent["Nats-Expected-Stream"] = stream
        reason = "no acknowledgement in time"
        while (left := end - loop.time()) > 0:
            try:
                connection = await self.thread.connection(min(left, _CONNECT_WAIT))
                answer = await connection.request(subject, payload, seconds=min(left, _ATTEMPT), headers=sent)
            except TimeoutError:
                continue
            except NATSUnavailableError as error:
                raise PublishError(str(error)) from None
            except PayloadTooLargeError as error:
                raise PublishError(str(error), too_large=True) from None
            except (NoRespondersError, ConnectionLostError) as error:
                reason = str(error)
            else:
                reason, place = _read_acknowledgement(answer.data, stream)
                if not reason:
                    return place
            await asyncio.sleep(min(left, _PAUSE))
        raise PublishError(f"{self.address}: {reason}")

    async def put_object(self, name: str, source: Source, max_part: int, seconds: float) -> tuple[int, str]:
        """Store an object in the bucket, in the form of NATS' object store; return its size and SHA-256 in hex.

        Its parts have the subject ``$O.BUCKET.C.name`` and at most ``max_part`` octets; ``seconds`` is the time for
        each.  ``source`` is read in other threads, and closed.

        :raises PublishError: if a part is not acknowledged.
        :raises OSError: if the source cannot be read.
        """
        loop, bucket = asyncio.get_running_loop(), self.address.bucket
        stream, digest, size, count = f"OBJ_{bucket}", hashlib.sha256(), 0, 0
        part_size = min(_MAX_PART, max_part)
        try:
            while chunk := await loop.run_in_executor(None, source.read, part_size):
                digest.update(chunk)
                size += len(chunk)
                count += 1
                await self.publish(f"$O.{bucket}.C.{name}", chunk, f"{name}.{count}", stream, seconds)
        finally:
            source.close()
        meta = {
            "name": name,
            "bucket": bucket,
            "nuid": name,
            "size": size,
            "chunks": count,
            "digest": f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}",
            "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "options": {"max_chunk_size": part_size},
        }
        key = base64.urlsafe_b64encode(name.encode()).decode()
        await self.publish(f"$O.{bucket}.M.{key}", json.dumps(meta).encode(), name, stream, seconds)
        return size, digest.hexdigest()


def _read_acknowledgement(data: bytes, stream: str | None) -> tuple[str, str]:
    """Return why to try again, or ``""`` for an acknowledgement of ``stream`` (None: of any); and the place there.

    :raises PublishError: if another attempt is useless.
    """
    try:
        answer: Any = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise PublishError("the acknowledgement is not JSON")
    error = answer.get("error")
    if error is None:
        if not answer.get("stream") or stream not in {None, answer["stream"]}:
            raise PublishError(f"acknowledged by the stream {answer.get('stream')!r}, not {stream}")
        again = ", a duplicate" if answer.get("duplicate") else ""
        return "", f"stream {answer['stream']}, sequence {answer.get('seq')}{again}"
    text = f"stream {stream}: {error.get('description')}"
    if error.get("err_code") in _FULL:
        raise PublishError(text, full=True)
    if error.get("err_code") == _TOO_LARGE:
        raise PublishError(text, too_large=True)
    if error.get("code") == _CONFLICT or (error.get("code") or 0) >= 500:
        return text, ""
    raise PublishError(text)
