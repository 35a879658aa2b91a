"""Deletes objects that no message names, and results of messages that no longer exist.

An object is left if its message was answered 451 after the object was stored, and results are left if a consumer died
between the acknowledgement and their deletion.  One of all consumers sweeps at a time: a lease in the bucket of results
says which.  Both must be older than an hour and the duplicate window.  An object stays as long as a message has its
name, in the stream or in that of failures.
"""

import json
import logging
import random
import re
from datetime import UTC, datetime
from typing import Any, Final

from triosmtp.jetstream.consumer_source import ConsumerSource
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_publisher import PublishError

__all__ = ["SWEEP_INTERVAL", "sweep_objects"]

_log = logging.getLogger("triosmtp.consume")

SWEEP_INTERVAL: Final = 600.0
"""Seconds between two sweeps."""
_LEASE: Final = 300.0
"""Seconds for which a sweep has the lease."""
_MIN_AGE: Final = 3600.0
_MAX_NAMES: Final = 10_000
_KEY: Final = "sweeper"
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,160}").fullmatch
_MAX_TOKENS: Final = 3
"""Tokens that may stand between the subject of the stream and the name."""


async def sweep_objects(source: ConsumerSource, failure_subject: str) -> int:
    """Delete what nobody needs, and return the number of objects and results; 0 if another consumer has the lease.

    :raises NATSUnavailableError: if JetStream does not answer.
    """
    if not await _take_lease(source):
        return 0
    address = source.address
    info = await source.ask(f"STREAM.INFO.{address.stream}")
    window = ((info or {}).get("config", {}).get("duplicate_window") or 0) / 1_000_000_000
    failures = await source.ask("STREAM.NAMES", {"subject": f"{failure_subject}.>"})
    holders = [(address.stream, address.subject)]
    holders += [(each, failure_subject) for each in (failures or {}).get("streams") or ()]
    deleted = 0
    for name in await _unneeded(source, f"OBJ_{address.bucket}", f"$O.{address.bucket}.C.", holders, window):
        await source.delete_object(name)
        deleted += 1
        _log.info("%s: the object %s is deleted, no message names it", address, name)
    prefix = source.results_subject("")
    for name in await _unneeded(source, source.results_stream, prefix, holders[:1], window):
        await source.delete_results(name)
        deleted += 1
        _log.info("%s: the results of %s are deleted, the message is gone", address, name)
    return deleted


async def _unneeded(
    source: ConsumerSource, stream: str, prefix: str, holders: list[tuple[str, str]], window: float
) -> list[str]:
    """Return the names of old subjects of ``stream`` that no message of the holders has."""
    found = []
    for name in await _names(source, stream, prefix):
        # A subject of another program may be a pattern, such as *, which would be that of all objects.
        if name == _KEY or not _NAME(name) or await _age(source, stream, prefix + name) <= _MIN_AGE + window:
            continue
        if not await _is_held(source, holders, name):
            found.append(name)
    return found


async def _is_held(source: ConsumerSource, holders: list[tuple[str, str]], name: str) -> bool:
    """Return whether a message has this name; that of a node may have further tokens in its subject."""
    for holder, subject in holders:
        for count in range(_MAX_TOKENS + 1):
            if await source.last_message(holder, f"{subject}{'.*' * count}.{name}") is not None:
                return True
    return False


async def _take_lease(source: ConsumerSource) -> bool:
    """Take the lease, unless another consumer has it."""
    now = datetime.now(UTC).timestamp()
    found = await source.last_message(source.results_stream, source.results_subject(_KEY))
    sequence = 0
    if found is not None:
        sequence = found["seq"]
        lease = source.value_of(found)
        until = lease.get("until")
        if isinstance(until, (int, float)) and until > now and lease.get("holder") != source.thread.id:
            return False
    value = json.dumps({"holder": source.thread.id, "until": now + _LEASE}).encode()
    try:
        # The last message of the key must still be the one that was read: two consumers cannot both take it.
        await source.put_result(_KEY, value, {"Nats-Expected-Last-Subject-Sequence": str(sequence)})
    except PublishError:
        return False
    return True


async def _names(source: ConsumerSource, stream: str, prefix: str) -> list[str]:
    """Return what follows ``prefix`` in the subjects of a stream; if they are too many for one sweep, some of them."""
    found = await source.ask(f"STREAM.INFO.{stream}", {"subjects_filter": f"{prefix}>"})
    subjects: dict[str, Any] = ((found or {}).get("state") or {}).get("subjects") or {}
    names = [each.removeprefix(prefix) for each in subjects]
    return names if len(names) <= _MAX_NAMES else random.sample(names, _MAX_NAMES)


async def _age(source: ConsumerSource, stream: str, subject: str) -> float:
    """Return the seconds since the last message of a subject was stored."""
    found = await source.last_message(stream, subject)
    if found is None:
        return 0.0
    try:
        stored = datetime.fromisoformat(found["time"][:19] + "+00:00")
    except (KeyError, ValueError, TypeError):
        raise NATSUnavailableError(f"the time of {subject} is malformed") from None
    return (datetime.now(UTC) - stored).total_seconds()
