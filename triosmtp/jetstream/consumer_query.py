"""Asks what a consumer needs, for ``triosmtp check --connect``: the stream, its consumer, results and failures."""

from typing import Final

import trio

from triosmtp.config import Settings, TargetSettings
from triosmtp.jetstream.consumer_source import ACK_WAIT
from triosmtp.jetstream.nats_client import ConnectionLostError
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_address import stream_address
from triosmtp.jetstream.stream_factory import make_login
from triosmtp.jetstream.stream_publisher import StreamPublisher
from triosmtp.jetstream.stream_query import query_consumer, query_kv

__all__ = ["find_consumer_problems", "min_results_age", "results_bucket"]

_WAIT: Final = 5.0


def results_bucket(options: Settings, stream: str) -> str:
    """Return the key-value bucket for results of a Consumer with these options."""
    return options.results_bucket or f"{stream}-results"


def min_results_age(options: Settings) -> float:
    """Return the seconds for which results are needed."""
    return options.message_expiration + max(options.retry_delays)


async def find_consumer_problems(queue: TargetSettings, options: Settings) -> tuple[str, ...]:
    """Return what is wrong with the stream of ``queue`` for a Consumer with these options.

    :raises ConfigError: if the files of the login cannot be used.
    """
    address, login = stream_address(queue), await trio.to_thread.run_sync(make_login, queue)
    publisher = StreamPublisher(address, login)

    async def ask() -> tuple[str, ...]:
        connection = await publisher.thread.connection(_WAIT)
        facts = await query_consumer(connection, address, options.durable_name, ACK_WAIT, options.failure_subject or "")
        bucket, age = results_bucket(options, address.stream), min_results_age(options)
        return facts.problems + await query_kv(connection, bucket, address.replicas, age)

    try:
        found = await publisher.thread.call(publisher.wait_for_facts, _WAIT)
        return found.problems + await publisher.thread.call(ask)
    except (NATSUnavailableError, ConnectionLostError) as error:
        return (f"not available: {error}",)
    finally:
        await publisher.thread.aclose()
