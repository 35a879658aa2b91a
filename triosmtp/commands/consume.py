"""``triosmtp consume``: delivers the mail of a stream, by the Consumer scopes of a configuration."""

import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from triosmtp.config import Config, Settings, problem_at
from triosmtp.delivery import Delivery, Maildir, TargetContext, TargetHealth
from triosmtp.errors import ConfigError, Problem, QueryError, collect
from triosmtp.module_loader import ModuleLoader
from triosmtp.server.target_factories import make_delivery, missing_extra

__all__ = ["ask_consumers", "check_consumers", "consume_command"]

_EX_CONFIG: Final = 78
_log = logging.getLogger("triosmtp.consume")


def consume_command(config: Config) -> int:
    """Run every Consumer of ``config`` until a signal comes; return the exit status.

    :raises QueryError: if there is no Consumer, or the extra is missing.
    """
    if not config.consumers:
        raise QueryError(f"{config.path}: there is no Consumer")
    try:
        import triosmtp.jetstream.consumer_runner  # noqa: F401, PLC0415 - imports nats-py
    except ImportError as error:
        raise QueryError(str(missing_extra("nats-py", "nats", error))) from None
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # its failures are reported by triosmtp.nats
    status = 0
    try:
        trio.run(_run, config)
    except* ConfigError as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        print(leaf, file=sys.stderr)
        status = _EX_CONFIG
    return status


def check_consumers(config: Config) -> None:
    """Make the targets and logins of every Consumer, for `triosmtp check`.  Nothing is opened.

    :raises ConfigError: with a problem for everything that cannot be used.
    """
    problems: list[Problem] = []
    for settings in config.consumers.values():
        names = [("deliver_to", each) for each in settings.deliver_to[:1]]
        for field, name in (*names, ("read_from", settings.read_from), ("report_to", settings.report_to)):
            if name is not None:  # an option that is missing is an error of the configuration
                collect(problems, partial(_check_target, config, settings, field, name))
    if problems:
        raise ConfigError(problems)


async def ask_consumers(config: Config) -> tuple[Problem, ...]:
    """Ask the stream of every Consumer about what it needs, and its targets whether they are available."""
    problems: list[Problem] = []
    for name, settings in config.consumers.items():
        from triosmtp.jetstream.consumer_query import find_consumer_problems  # noqa: PLC0415 - imports nats-py

        found = await find_consumer_problems(config.deliveries[settings.read_from or ""], settings)
        problems += [problem_at(settings, "read_from", f"Consumer {name}: {each}") for each in found]
        for field, target in (("deliver_to", settings.deliver_to[0]), ("report_to", settings.report_to)):
            if target is not None and (reason := await _probe(config, target)):
                problems.append(problem_at(settings, field, f"{target}: not available: {reason}"))
    return tuple(problems)


async def _probe(config: Config, name: str) -> str:
    delivery = await trio.to_thread.run_sync(_make_target, config, name, config.base.banner_hostname or "localhost")
    try:
        return await delivery.probe()
    finally:
        await _close(delivery)


def _check_target(config: Config, settings: Settings, field: str, name: str) -> None:
    context = TargetContext("localhost", TargetHealth(name), node=config.base.node_name or "consumer")
    try:
        target = config.target(name)
        make_delivery(target, context, ModuleLoader(config.folder))
    except ValueError as error:
        raise ConfigError([problem_at(settings, field, str(error))]) from None


async def _run(config: Config) -> None:
    async with trio.open_nursery() as nursery:
        for name, settings in config.consumers.items():
            nursery.start_soon(_run_consumer, config, name, settings)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def _run_consumer(config: Config, name: str, settings: Settings) -> None:
    """Run one Consumer until cancelled.

    :raises ConfigError: if a target cannot be made.
    """
    from triosmtp.jetstream.consumer_runner import run_stream_consumer  # noqa: PLC0415 - imports nats-py
    from triosmtp.jetstream.stream_consumer import ConsumerSettings  # noqa: PLC0415

    hostname = config.base.banner_hostname or socket.gethostname()
    found = ConsumerSettings(
        failure_subject=settings.failure_subject or "",
        retry_delays=settings.retry_delays,
        message_expiration=settings.message_expiration,
        report_strangers=settings.report_strangers,
        hostname=hostname,
        concurrency=_concurrency(config, settings),
    )
    async with AsyncExitStack() as stack, trio.open_nursery() as tasks:
        target = await _open_target(config, settings.deliver_to[0], hostname, tasks, stack)
        reports = None
        if settings.report_to is not None:
            reports = await _open_target(config, settings.report_to, hostname, tasks, stack)
        _log.info("Consumer %s: from %s to %s", name, settings.read_from, target)
        await run_stream_consumer(config.deliveries[settings.read_from or ""], settings, found, target, reports)


def _concurrency(config: Config, settings: Settings) -> int:
    """Return how many messages are delivered at the same time: each needs a connection to the target."""
    target = config.target(settings.deliver_to[0])
    connections = 0 if target.scheme == "maildir" else target.settings.max_outbound_connections
    return min(settings.concurrency, connections or settings.concurrency)


async def _open_target(
    config: Config, name: str, hostname: str, tasks: trio.Nursery, stack: AsyncExitStack
) -> Delivery:
    delivery = await trio.to_thread.run_sync(_make_target, config, name, hostname)
    stack.push_async_callback(_close, delivery)
    if type(delivery).run is not Delivery.run:
        tasks.start_soon(delivery.run)
    return delivery


def _make_target(config: Config, name: str, hostname: str) -> Delivery:
    target = config.target(name)
    if target.scheme == "maildir":
        return Maildir(Path(target.addresses[0].path), by_id=True)
    context = TargetContext(hostname, TargetHealth(target.name), node=config.base.node_name or "")
    return make_delivery(target, context, ModuleLoader(config.folder))


async def _close(delivery: Delivery) -> None:
    with trio.CancelScope(shield=True):
        await delivery.aclose()
