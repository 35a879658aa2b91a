"""Asks JetStream about a stream and its object bucket, and a server's monitoring port about ``sync_always``."""

import http.client
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from triosmtp.jetstream.nats_client import NATSConnection, NoRespondersError
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_check import (
    MIN_MESSAGE,
    check_bucket,
    check_consumer,
    check_failures,
    check_kv,
    check_stream,
    consumes,
)

__all__ = ["ConsumerFacts", "StreamFacts", "ask", "query_consumer", "query_kv", "query_stream", "syncs_always"]

_TIMEOUT: Final = 3.0
_NOT_FOUND: Final = 404
_MAX_CONSUMERS: Final = 4096
_MAX_ANSWER: Final = 1 << 20
_MONITOR_TIMEOUT: Final = 3.0


@frozen(slots=True)
class StreamFacts:
    """The answer of the servers about a stream."""

    problems: tuple[str, ...]
    """What is wrong with its settings; empty: mail may be published."""
    max_message: int
    """The octets that one message may have, with its headers."""
    max_part: int
    """The octets that a part of an object may have, with its headers."""
    is_work_queue: bool = False
    """Whether a message is deleted when it is acknowledged."""


@frozen(slots=True)
class ConsumerFacts:
    """The answer of the servers about a durable consumer."""

    problems: tuple[str, ...]
    """What is wrong with its settings; empty: messages may be taken."""
    pending: int = 0
    """Messages that were delivered and not settled: they are being delivered, or wait for their next attempt."""
    is_full: bool = False
    """Whether ``max_ack_pending`` of them are reached, so that no further one is delivered."""


async def query_stream(connection: NATSConnection, address: StreamAddress) -> StreamFacts:
    """Ask about the stream and the object bucket of ``address``.

    :raises NATSUnavailableError: if JetStream does not answer.
    :raises ConnectionLostError: if the connection is lost.
    """
    config = await _stream_config(connection, address.stream)
    if config is None:
        return StreamFacts((f"there is no stream {address.stream}",), 0, 0)
    durable = 0
    if config.get("retention") == "interest":
        durable = await _count_durable_consumers(connection, address)
    problems = check_stream(
        config,
        subject=address.subject,
        replicas=address.replicas,
        deadline=address.deadline,
        durable_consumers=durable,
    )
    bucket = await _stream_config(connection, f"OBJ_{address.bucket}")
    if bucket is None:
        problems += (f"there is no object bucket {address.bucket}",)
    else:
        problems += check_bucket(bucket, bucket=address.bucket, replicas=address.replicas, deadline=address.deadline)
    if connection.max_payload < MIN_MESSAGE:
        problems += (f"max_payload: {connection.max_payload}, at least {MIN_MESSAGE} octets are needed",)
    return StreamFacts(
        problems,
        _max_message(connection, config),
        _max_message(connection, bucket or {}),
        is_work_queue=config.get("retention") == "workqueue",
    )


def _max_message(connection: NATSConnection, config: Mapping[str, Any]) -> int:
    limit: int = config.get("max_msg_size") or -1
    return connection.max_payload if limit < 0 else min(limit, connection.max_payload)


async def query_consumer(
    connection: NATSConnection, address: StreamAddress, consumer: str, ack_wait: float, failure_subject: str = ""
) -> ConsumerFacts:
    """Ask about ``consumer`` of the stream, and whether a stream has ``failure_subject``.

    :raises NATSUnavailableError: if JetStream does not answer.
    :raises ConnectionLostError: if the connection is lost.
    """
    found = await ask(connection, f"CONSUMER.INFO.{address.stream}.{consumer}")
    if found is None:
        return ConsumerFacts((f"the stream {address.stream} has no consumer {consumer}",))
    config, pending = found["config"], found.get("num_ack_pending") or 0
    limit = config.get("max_ack_pending") or -1
    problems = check_consumer(config, subject=address.subject, ack_wait=ack_wait, replicas=address.replicas)
    if failure_subject:
        names = await ask(connection, "STREAM.NAMES", {"subject": f"{failure_subject}.>"})
        streams = (names or {}).get("streams") or ()
        problems += check_failures(config, stream=address.stream, failure_subject=failure_subject, streams=streams)
    return ConsumerFacts(problems, pending, is_full=0 < limit <= pending)


async def query_kv(connection: NATSConnection, bucket: str, replicas: int, min_age: float) -> tuple[str, ...]:
    """Return what is wrong with a key-value bucket whose values are needed for ``min_age`` seconds.

    :raises NATSUnavailableError: if JetStream does not answer.
    :raises ConnectionLostError: if the connection is lost.
    """
    config = await _stream_config(connection, f"KV_{bucket}")
    if config is None:
        return (f"there is no key-value bucket {bucket}",)
    return check_kv(config, replicas=replicas, min_age=min_age)


async def _stream_config(connection: NATSConnection, stream: str) -> dict[str, Any] | None:
    found = await ask(connection, f"STREAM.INFO.{stream}")
    return None if found is None else found["config"]


async def _count_durable_consumers(connection: NATSConnection, address: StreamAddress) -> int:
    """Return how many durable consumers get all mail."""
    count = offset = 0
    while offset < _MAX_CONSUMERS:
        found = await ask(connection, f"CONSUMER.LIST.{address.stream}", {"offset": offset})
        consumers = (found or {}).get("consumers") or ()
        configs = [each["config"] for each in consumers]
        count += sum(1 for each in configs if each.get("durable_name") and consumes(each, f"{address.subject}.>"))
        offset += len(consumers)
        if not consumers or offset >= (found or {}).get("total", 0):
            break
    return count


async def ask(connection: NATSConnection, request: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the answer of the API of JetStream, or None if what was asked about does not exist."""
    try:
        answer = await connection.request_json(f"$JS.API.{request}", body, seconds=_TIMEOUT)
    except NoRespondersError:
        raise NATSUnavailableError("JetStream is not enabled for this account") from None
    except TimeoutError:
        raise NATSUnavailableError(
            f"no answer to {request}: JetStream has no leader, or permissions forbid it"
        ) from None
    except ValueError:
        raise NATSUnavailableError(f"the answer to {request} is not JSON") from None
    error = answer.get("error") if isinstance(answer, dict) else {"description": "the answer is no object"}
    if error is None:
        found: dict[str, Any] = answer
        return found
    if error.get("code") == _NOT_FOUND:
        return None
    raise NATSUnavailableError(f"{request}: {error.get('description')}")


def syncs_always(monitor: str) -> bool:
    """Ask whether JetStream syncs each message to disk (``sync_interval: always``).

    ``monitor`` is the monitoring port of a server, ``http://host:port``.  It blocks, for some seconds at most.

    :raises OSError: if it cannot be reached.
    :raises ValueError: if the answer is not that of a server with JetStream.
    """
    url = urlsplit(monitor)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_MONITOR_TIMEOUT)
    try:
        connection.request("GET", "/varz")
        answer = json.loads(connection.getresponse().read(_MAX_ANSWER))
        config = answer["jetstream"]["config"]
        return bool(config.get("sync_always", False))
    except (http.client.HTTPException, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the monitoring port of a server with JetStream: {error!r}") from None
    finally:
        connection.close()
