"""Publishes events to NATS, for programs that observe all nodes: at most once, within bounds.

An event is a notification of the policy protocol as JSON, ``{"method": …, "params": …}``, under the subject
``SUBJECT.NODE.method``.  If the servers cannot be reached, or do not keep up, events are lost.  They are counted, and
the next event has their number as ``lost``.
"""

import asyncio
import logging
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import trio

from triosmtp.config import TargetAddress
from triosmtp.event import ServerEvent
from triosmtp.jetstream.nats_client import NATSConnection, NATSLogin
from triosmtp.jetstream.nats_thread import NATSThread
from triosmtp.observer import Subscription
from triosmtp.policy_service.event_notification import EVENT_NOTIFICATIONS
from triosmtp.policy_service.json_rpc import encode_json

__all__ = ["MAX_EVENTS", "EventPublisher"]

_log = logging.getLogger("triosmtp.nats")

MAX_EVENTS: Final = 10_000
"""Events that wait at most."""
_MAX_OCTETS: Final = 8 * 1024 * 1024
_MAX_EVENT: Final = 256 * 1024
"""Octets of the largest event: a longer one is lost."""
_LOST_INTERVAL: Final = 60.0
"""Seconds between two log lines about lost events."""


class EventPublisher:
    """Publishes the events that observers of the policy service receive.

    Add :attr:`subscription` to the observers of a server, and run :meth:`run`.
    """

    def __init__(self, address: TargetAddress, login: NATSLogin, node: str) -> None:
        self._address = address
        self._subject = address.path[1:]
        self._node = node
        self._thread = NATSThread(address.hosts, login, self._serve)
        self._queue: deque[tuple[str, bytes]] = deque()
        # Each is written by one thread only: this one puts, the other one takes.
        self._put = 0
        self._taken = 0
        self._wake: asyncio.Event | None = None
        self._sequence = 0
        self._told = 0
        self._next_line = 0.0
        self._too_many = 0  # and these two, too
        self._refused = 0
        self.subscription = Subscription(self._enqueue, EVENT_NOTIFICATIONS)
        """The observer."""

    @property
    def lost(self) -> int:
        """Events that were lost, in total."""
        return self._too_many + self._refused

    async def run(self) -> None:
        """Publish until cancelled."""
        self._thread.start()
        try:
            await trio.sleep_forever()
        finally:
            await self._thread.aclose()

    def _enqueue(self, event: ServerEvent) -> None:
        self._sequence += 1
        notification = EVENT_NOTIFICATIONS[type(event)](event)
        params: dict[str, Any] = {"sequence": self._sequence, "time": _now(), "node": self._node}
        session = getattr(event, "session", None)
        if session is not None:
            params |= {"session": session.id, "peer": session.peer, "listener": session.listener}
        params |= notification.contexts
        params |= notification.params
        if self.lost > self._told:
            params["lost"] = self.lost - self._told
        data = encode_json({"method": notification.method, "params": params}).encode("ascii")
        waiting = self._put - self._taken
        if len(data) > _MAX_EVENT or len(self._queue) >= MAX_EVENTS or waiting + len(data) > _MAX_OCTETS:
            self._lose()
            return
        self._told += params.get("lost", 0)
        self._put += len(data)
        self._queue.append((f"{self._subject}.{self._node}.{notification.method}", data))
        self._thread.notify(self._wake_up)

    def _lose(self) -> None:
        self._too_many += 1
        self._log_lost(self._thread.failure or "too slow")

    def _log_lost(self, reason: str) -> None:
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LOST_INTERVAL
            _log.warning("%s: %d events lost in total: %s", self._address, self.lost, reason)

    def _wake_up(self) -> None:  # in the thread
        if self._wake is not None:
            self._wake.set()

    async def _serve(self, connection: NATSConnection) -> None:
        wake = self._wake = asyncio.Event()
        wake.set()
        try:
            while True:
                await wake.wait()
                wake.clear()
                while self._queue:
                    subject, data = self._queue.popleft()
                    self._taken += len(data)
                    if len(data) > connection.max_payload:
                        self._refused += 1
                        self._log_lost(f"one has {len(data)} octets, and max_payload is {connection.max_payload}")
                        continue
                    await connection.client.publish(subject, data)
        except nats.errors.Error as error:
            _log.debug("%s: %r", self._address, error)
        finally:
            self._wake = None


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
