"""Deletes objects that no message names: those of messages that were answered 451 after the object was stored.

One of all consumers does it at a time: a lease in the bucket of results says which.  An object is deleted if it is
older than an hour and the duplicate window, and no message has its name, in the stream or in that of failures.
"""

import json
import logging
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
_MAX_OBJECTS: Final = 10_000
_KEY: Final = "sweeper"


async def sweep_objects(source: ConsumerSource, failure_subject: str) -> int:
    """Delete the objects that no message names, and return their number; 0 if another consumer has the lease.

    :raises NATSUnavailableError: if JetStream does not answer.
    """
    if not await _take_lease(source):
        return 0
    address, deleted = source.address, 0
    info = await source.ask(f"STREAM.INFO.{address.stream}")
    window = ((info or {}).get("config", {}).get("duplicate_window") or 0) / 1_000_000_000
    failures = await source.ask("STREAM.NAMES", {"subject": f"{failure_subject}.>"})
    holders = [(address.stream, address.subject)]
    holders += [(each, failure_subject) for each in (failures or {}).get("streams") or ()]
    for name in await _names(source):
        if await _age(source, name) <= _MIN_AGE + window:
            continue
        named = False
        for stream, subject in holders:
            named = named or await source.last_message(stream, f"{subject}.{name}") is not None
        if not named:
            await source.delete_object(name)
            deleted += 1
            _log.info("%s: the object %s is deleted, no message names it", address, name)
    return deleted


async def _take_lease(source: ConsumerSource) -> bool:
    """Take the lease, unless another consumer has it."""
    now = datetime.now(UTC).timestamp()
    found = await source.last_message(source.results_stream, source.results_subject(_KEY))
    sequence = 0
    if found is not None:
        sequence = found["seq"]
        lease = source.value_of(found)
        if lease.get("until", 0) > now and lease.get("holder") != source.thread.id:
            return False
    value = json.dumps({"holder": source.thread.id, "until": now + _LEASE}).encode()
    try:
        # The last message of the key must still be the one that was read: two consumers cannot both take it.
        await source.put_result(_KEY, value, {"Nats-Expected-Last-Subject-Sequence": str(sequence)})
    except PublishError:
        return False
    return True


async def _names(source: ConsumerSource) -> list[str]:
    prefix = f"$O.{source.address.bucket}.C."
    found = await source.ask(f"STREAM.INFO.OBJ_{source.address.bucket}", {"subjects_filter": f"{prefix}>"})
    subjects: dict[str, Any] = ((found or {}).get("state") or {}).get("subjects") or {}
    return sorted(each.removeprefix(prefix) for each in subjects)[:_MAX_OBJECTS]


async def _age(source: ConsumerSource, name: str) -> float:
    """Return the seconds since the last part of an object was stored."""
    bucket = source.address.bucket
    found = await source.last_message(f"OBJ_{bucket}", f"$O.{bucket}.C.{name}")
    if found is None:
        return 0.0
    try:
        stored = datetime.fromisoformat(found["time"][:19] + "+00:00")
    except (KeyError, ValueError, TypeError):
        raise NATSUnavailableError("the time of an object is malformed") from None
    return (datetime.now(UTC) - stored).total_seconds()
