"""Requests messages of a durable consumer from JetStream, in batches.

One request is open at a time.  It asks for as many messages as there are free places, and the server answers with those
that it has, at once, and with later ones as they are published.  When all have come, or the request has ended, the next
one follows.  A request also counts as lost if neither a message nor a heartbeat came for some seconds, which happens if
the leader of the consumer ends.

Everything here runs in the thread of :class:`~triosmtp.jetstream.nats_thread.NATSThread`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from triosmtp.jetstream.nats_client import ConnectionLostError, NATSConnection
from triosmtp.jetstream.stream_address import StreamAddress

__all__ = ["MessagePuller"]

_SECOND: Final = 1_000_000_000
_EXPIRES: Final = 30.0
"""Seconds after which the server ends a request."""
_HEARTBEAT: Final = 5.0
"""Seconds after which the server sends a heartbeat if it has no message."""
_SILENCE: Final = 2.5 * _HEARTBEAT
_HEARTBEAT_STATUS: Final = "100"
_TIMEOUT_STATUS: Final = "408"


class MessagePuller:
    """Requests messages on one connection, and calls ``on_message`` with each."""

    def __init__(
        self,
        connection: NATSConnection,
        address: StreamAddress,
        consumer: str,
        on_message: Callable[[Msg], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{address.stream}.{consumer}"
        self._on_message = on_message
        self._inbox = connection.client.new_inbox()
        self._requests = 0
        self._awaited = 0
        self._status = ""
        self._heard = asyncio.Event()
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Subscribe to the messages."""
        self._subscription = await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._receive)

    async def pull(self, count: int) -> str:
        """Request ``count`` messages, and return when all have come, or the request has ended.

        Return the description of a status that is not expected, such as that the consumer was deleted; else ``""``.

        :raises ConnectionLostError: if the connection is lost.
        """
        self._requests += 1
        self._awaited, self._status = count, ""
        times = {"expires": int(_EXPIRES * _SECOND), "idle_heartbeat": int(_HEARTBEAT * _SECOND)}
        try:
            await self._connection.client.publish(
                self._subject, json.dumps({"batch": count, **times}).encode(), reply=f"{self._inbox}.{self._requests}"
            )
        except (nats.errors.Error, OSError) as error:
            raise ConnectionLostError(f"the connection to NATS was lost: {error}") from None
        while self._awaited > 0:
            self._heard.clear()
            try:
                async with asyncio.timeout(_SILENCE):
                    await self._heard.wait()
            except TimeoutError:
                return ""  # the next request asks another leader
        return self._status

    async def _receive(self, message: Msg) -> None:
        if message.reply.startswith("$JS.ACK."):
            self._awaited -= 1
            self._heard.set()
            await self._on_message(message)
        elif message.subject.rpartition(".")[2] == str(self._requests):  # about the request, and not an earlier one
            headers = message.headers or {}
            self._note_status(headers.get("Status", ""), headers.get("Description", ""))

    def _note_status(self, status: str, description: str) -> None:
        if status != _HEARTBEAT_STATUS:
            self._awaited = 0
            self._status = "" if status == _TIMEOUT_STATUS else description or f"status {status}"
        self._heard.set()

    async def stop(self) -> None:
        """Request no more.  Messages that were under way have come when this returns."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await subscription.drain()  # type: ignore[no-untyped-call]
