"""Runs a consumer: messages that its source takes go to tasks, and one task sweeps objects."""

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import trio

from triosmtp.config import Settings, TargetSettings
from triosmtp.delivery import Delivery
from triosmtp.jetstream.consumer_query import min_results_age, results_bucket
from triosmtp.jetstream.consumer_source import ConsumerSource, TakenMessage
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.object_sweeper import SWEEP_INTERVAL, sweep_objects
from triosmtp.jetstream.stream_address import stream_address
from triosmtp.jetstream.stream_consumer import ConsumerSettings, StreamConsumer
from triosmtp.jetstream.stream_factory import make_login

__all__ = ["run_stream_consumer"]

_log = logging.getLogger("triosmtp.consume")

_GRACE: Final = 10.0
"""Seconds that messages have to finish after a cancellation."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the servers to answer meanwhile."""


async def run_stream_consumer(
    queue: TargetSettings, options: Settings, settings: ConsumerSettings, target: Delivery, reports: Delivery | None
) -> None:
    """Take messages from the stream of ``queue``, and deliver them, until cancelled.

    Messages under way then have some seconds to finish, so that they are not delivered again.  Those that do not are
    returned.

    :raises ConfigError: if the files of the login cannot be used.
    """
    token = trio.lowlevel.current_trio_token()
    address, login = stream_address(queue), await trio.to_thread.run_sync(make_login, queue)
    messages = _Messages()
    source = ConsumerSource(
        address,
        login,
        consumer=options.durable_name,
        bucket=results_bucket(options, address.stream),
        max_messages=settings.concurrency,
        failure_subject=settings.failure_subject,
        min_results_age=min_results_age(options),
        on_message=lambda taken: token.run_sync_soon(messages.start, consumer, taken),
    )
    consumer = StreamConsumer(settings, source, target, reports)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(messages.run)  # no checkpoint before the block that ends it
        nursery.start_soon(_sweep, source, settings.failure_subject)
        source.thread.start()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await _call_briefly(source, source.stop_taking)
                await messages.finish(_GRACE)
                await _call_briefly(source, source.return_all)
                await source.thread.aclose()


class _Messages:
    """The tasks of messages.  They are shielded from cancellation: :meth:`finish` ends them."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope(shield=True)
        self._stop = trio.Event()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Run the tasks, until :meth:`finish`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._stop.wait()
                self._nursery = None
        self._ended.set()

    def start(self, consumer: StreamConsumer, taken: TakenMessage) -> None:
        """Start to handle a message; one that comes too late is returned."""
        if self._nursery is not None:
            self._nursery.start_soon(consumer.handle, taken)

    async def finish(self, seconds: float) -> None:
        """Start no further task, and wait for the others up to ``seconds``."""
        self._stop.set()
        self._scope.deadline = trio.current_time() + seconds
        await self._ended.wait()


async def _call_briefly(source: ConsumerSource, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with trio.move_on_after(_CLOSE_TIMEOUT), suppress(NATSUnavailableError):
        await source.thread.call(function)


async def _sweep(source: ConsumerSource, failure_subject: str) -> None:
    while True:
        await trio.sleep(SWEEP_INTERVAL)
        try:
            await source.thread.call(sweep_objects, source, failure_subject)
        except NATSUnavailableError as error:
            _log.warning("objects are not swept: %s", error)
        except Exception:  # noqa: BLE001 - it must not end the consumer
            _log.exception("objects are not swept")
