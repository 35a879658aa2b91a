"""Checks of the settings of streams, object buckets and consumers: with wrong ones, acknowledged mail is lost.

Pure functions: the settings as the API of JetStream describes them go in, errors come out.  Each error begins with the
name of the setting, and ends with what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = [
    "MIN_MESSAGE", "check_bucket", "check_consumer", "check_failures", "check_kv", "check_stream", "consumes",
    "matches",
]  # fmt: skip

_PUBLISH_WINDOW: Final = 2
"""The duplicate window must be at least so many times the time in which a message must be acknowledged."""
MAX_RESULTS: Final = 350_000
"""Octets of the results of a message with the most recipients."""
MIN_MESSAGE: Final = 4096
"""Octets that a message of a stream must be able to have, with its headers."""
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
    if config.get("retention") == "interest" and not durable_consumers:
        yield (
            f"retention interest: without a durable consumer of {subject} every message is discarded at once: add a "
            "consumer first"
        )
    yield from _check_publishing(config, (subject,), deadline)


def _check_publishing(config: Mapping[str, Any], wanted: Sequence[str], deadline: float) -> Iterator[str]:
    """Yield why publications may not be stored, or more than once."""
    subjects = config.get("subjects") or ()
    for subject in wanted:
        if not any(matches(subject, each) for each in subjects):
            yield f"subjects: {', '.join(map(str, subjects)) or 'none'} do not contain {subject}"
    if 0 < (limit := config.get("max_msg_size") or -1) < MIN_MESSAGE:
        yield f"max_msg_size: {limit}, at least {MIN_MESSAGE} octets are needed"
    window = config.get("duplicate_window") or 0
    if window < _PUBLISH_WINDOW * deadline * _SECOND:
        yield (
            f"duplicate_window: {_seconds(window)}, and a message may be published again for {deadline:g} s: at least "
            f"{_PUBLISH_WINDOW * deadline:g} s are needed"
        )


_USELESS: Final = {
    "no_ack": "the stream acknowledges nothing, so no message would be accepted",
    "sealed": "the stream accepts no messages",
}


def _check_durability(config: Mapping[str, Any], replicas: int) -> Iterator[str]:
    """Yield what may lose messages of a stream."""
    if config.get("storage") != "file":
        yield "storage: messages in memory are lost with the server: use file storage"
    yield from (f"{name}: {problem}" for name, problem in _USELESS.items() if config.get(name))
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


def check_bucket(config: Mapping[str, Any], *, bucket: str, replicas: int, deadline: float) -> tuple[str, ...]:
    """Return what is wrong with the stream of the object bucket ``bucket``, to which parts of mail are published."""
    return tuple(f"object bucket: {each}" for each in _check_bucket(config, bucket, replicas, deadline))


def _check_bucket(config: Mapping[str, Any], bucket: str, replicas: int, deadline: float) -> Iterator[str]:
    yield from _check_durability(config, replicas)
    if config.get("retention") == "interest":
        yield "retention interest: every object is discarded at once: use limits"
    yield from _check_publishing(config, (f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"), deadline)


def check_kv(config: Mapping[str, Any], *, replicas: int, min_age: float) -> tuple[str, ...]:
    """Return what is wrong with the stream of the key-value bucket for results.

    It keeps one value for each key.  It may delete values that are older than ``min_age`` seconds.
    """
    durable = {**config, "max_msgs_per_subject": -1, "max_age": 0}
    problems = [f"key-value bucket: {each}" for each in _check_durability(durable, replicas)]
    age = config.get("max_age") or 0
    if 0 < age < min_age * _SECOND:
        problems.append(
            f"key-value bucket: max_age: results are deleted after {_seconds(age)}, and they are needed for "
            f"{min_age:g} s, which is Message_Expiration and the longest of Retry_Delays"
        )
    if 0 < (limit := config.get("max_msg_size") or -1) < MAX_RESULTS:
        problems.append(f"key-value bucket: max_msg_size: {limit}, results may have up to {MAX_RESULTS} octets")
    return tuple(problems)


def check_failures(
    consumer: Mapping[str, Any], *, stream: str, failure_subject: str, streams: Sequence[str]
) -> tuple[str, ...]:
    """Return what is wrong with the failure subject of ``consumer`` of ``stream``; ``streams`` have this subject."""
    subject = f"{failure_subject}.>"
    if not streams:
        return (f"Failure_Subject: no stream has the subject {subject}: add one for mail that cannot be delivered",)
    if stream in streams and any(matches(subject, each) for each in _filters(consumer)):
        return (f"Failure_Subject: the consumer would take {subject} again: give it a filter_subject",)
    return ()


def check_consumer(config: Mapping[str, Any], *, subject: str, ack_wait: float, replicas: int) -> tuple[str, ...]:
    """Return what is wrong with the consumer of ``triosmtp consume``, which signals progress within ``ack_wait``."""
    return tuple(_check_consumer(config, f"{subject}.>", ack_wait, replicas))


_FORBIDDEN: Final = {
    "deliver_subject": "the consumer pushes messages: make a pull consumer",
    "backoff": "it replaces ack_wait, and delays are those of Retry_Delays: remove it",
    "mem_storage": "the state of the consumer is lost with the server: remove it",
    "inactive_threshold": "the consumer is deleted if nobody uses it: remove it",
    "headers_only": "the consumer does not deliver the message: remove it",
    "max_batch": "the server refuses requests for more messages: remove it, and use Concurrency",
    "max_bytes": "the server refuses requests for more octets: remove it",
    "max_expires": "the server refuses requests for a longer time: remove it",
    "priority_groups": "requests must name a group: remove it",
}


def _check_consumer(config: Mapping[str, Any], subject: str, ack_wait: float, replicas: int) -> Iterator[str]:
    if not config.get("durable_name"):
        yield "durable_name: the consumer is forgotten while nobody uses it: make a durable one"
    for name, problem in _FORBIDDEN.items():
        if config.get(name):
            yield f"{name}: {problem}"
    if (policy := config.get("ack_policy")) != "explicit":
        yield f"ack_policy {policy}: messages would be acknowledged before delivery: use explicit"
    if (limit := config.get("max_deliver") or -1) > 0:
        yield f"max_deliver {limit}: mail is given up after so many attempts: use -1, and Message_Expiration"
    if (config.get("ack_wait") or 0) < ack_wait * _SECOND:
        yield f"ack_wait: {_seconds(config.get('ack_wait') or 0)}, at least {ack_wait:g} s are needed"
    if (policy := config.get("deliver_policy", "all")) != "all":
        yield f"deliver_policy {policy}: mail that waits would be skipped: use all"
    if 0 < (found := config.get("num_replicas") or 0) < replicas:
        yield f"num_replicas: {found}, and {replicas} are required: use 0, which is the number of the stream"
    if not consumes(config, subject):
        yield f"filter_subject: {', '.join(_filters(config))} does not contain {subject}"


def consumes(config: Mapping[str, Any], subject: str) -> bool:
    """Return whether a consumer gets every message of ``subject``, a pattern."""
    return any(matches(subject, each) for each in _filters(config))


def _filters(config: Mapping[str, Any]) -> Sequence[str]:
    return config.get("filter_subjects") or [config.get("filter_subject") or ">"]


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
