"""Checks of the settings of streams and object buckets: with wrong ones, acknowledged mail is lost.

Pure functions: the settings as the API of JetStream describes them go in, errors come out.  Each error begins with the
name of the setting, and ends with what to do.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["PUBLISH_WINDOW", "check_bucket", "check_stream", "matches"]

PUBLISH_WINDOW: Final = 2
"""The duplicate window must be at least so many times the time in which a message must be acknowledged."""
_SECOND: Final = 1_000_000_000


def check_stream(
    config: Mapping[str, Any], *, subject: str, replicas: int, deadline: float, durable_consumers: int
) -> tuple[str, ...]:
    """Return what is wrong with a stream to which messages are published under ``subject`` and further tokens.

    ``durable_consumers`` is their number, which matters with the retention ``interest`` only.
    """
    return tuple(_check_stream(config, f"{subject}.>", replicas, deadline, durable_consumers))


def _check_stream(
    config: Mapping[str, Any], subject: str, replicas: int, deadline: float, durable_consumers: int
) -> Iterator[str]:
    yield from _check_durability(config, replicas)
    if config.get("no_ack"):
        yield "no_ack: the stream acknowledges nothing, so no message would be accepted"
    if config.get("retention") == "interest" and not durable_consumers:
        yield "retention interest: without a durable consumer every message is discarded at once: add a consumer first"
    subjects = config.get("subjects") or ()
    if not any(matches(subject, each) for each in subjects):
        yield f"subjects: {', '.join(map(str, subjects)) or 'none'} do not contain {subject}"
    window = config.get("duplicate_window") or 0
    if window < PUBLISH_WINDOW * deadline * _SECOND:
        yield (
            f"duplicate_window: {_seconds(window)}, and a message may be published again for {deadline:g} s: at least "
            f"{PUBLISH_WINDOW * deadline:g} s are needed"
        )


def _check_durability(config: Mapping[str, Any], replicas: int) -> Iterator[str]:
    """Yield what may lose messages of a stream."""
    if config.get("storage") != "file":
        yield "storage: messages in memory are lost with the server: use file storage"
    if config.get("sealed"):
        yield "sealed: the stream accepts no messages"
    if config.get("discard", "old") == "old":
        for name in ("max_msgs", "max_bytes"):
            if (limit := config.get(name) or -1) > 0:
                yield f"discard old with {name} {limit}: at the limit, mail that waits is discarded: use discard new"
    if config.get("max_age"):
        yield f"max_age: mail that waits is discarded after {_seconds(config['max_age'])}: remove the limit"
    if (limit := config.get("max_msgs_per_subject") or -1) > 0:
        yield f"max_msgs_per_subject: {limit}: remove the limit"
    if config.get("persist_mode") == "async":
        yield "persist_mode async: messages are acknowledged before they are on disk: use the default"
    found = config.get("num_replicas") or 1
    if found < replicas:
        hint = "" if replicas == 1 else f" (or state ?replicas={found}, if one copy fewer is enough)"
        yield f"num_replicas: {found}, and {replicas} are required{hint}"


def check_bucket(config: Mapping[str, Any], *, replicas: int) -> tuple[str, ...]:
    """Return what is wrong with the stream of an object bucket."""
    return tuple(f"object bucket: {each}" for each in _check_durability(config, replicas))


def matches(subject: str, pattern: str) -> bool:
    """Return whether ``pattern`` contains every subject that ``subject``, a pattern, contains."""
    words, wanted = subject.split("."), pattern.split(".")
    for number, word in enumerate(wanted):
        if word == ">":
            return len(words) > number
        if number >= len(words) or words[number] == ">":
            return False
        if word not in {"*", words[number]}:
            return False
    return len(words) == len(wanted)


def _seconds(nanoseconds: float) -> str:
    return f"{nanoseconds / _SECOND:g} s"
