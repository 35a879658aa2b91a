"""The settings of streams and buckets: each error by its name, and none for what is right."""

from typing import Any

import pytest
from nats_servers import OBJECT_BUCKET, STREAM

from triosmtp.jetstream.stream_check import (
    check_bucket,
    check_consumer,
    check_failures,
    check_kv,
    check_stream,
    matches,
)

SECOND = 1_000_000_000
CONSUMER = {"durable_name": "triosmtp", "ack_policy": "explicit", "ack_wait": 30 * SECOND, "max_deliver": -1}


def problems(replicas: int = 1, durable_consumers: int = 0, **changes: Any) -> tuple[str, ...]:
    return check_stream(
        {**STREAM, **changes},
        subject="mail.in",
        replicas=replicas,
        deadline=30.0,
        durable_consumers=durable_consumers,
    )


def test_a_stream_as_the_documentation_makes_it_is_right() -> None:
    assert problems() == ()
    assert problems(3, num_replicas=3) == ()
    assert problems(max_msgs=-1, max_bytes=-1, max_age=0, max_msgs_per_subject=-1, persist_mode="default") == ()
    assert problems(max_bytes=10_000_000) == ()  # with discard new
    assert problems(retention="workqueue") == ()
    assert problems(1, 1, retention="interest") == ()
    assert problems(discard="old") == ()  # without any limit nothing is discarded


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"storage": "memory"}, "storage"),
        ({"no_ack": True}, "no_ack"),
        ({"discard": "old", "max_msgs": 10}, "discard old with max_msgs 10"),
        ({"discard": "old", "max_bytes": 10}, "discard old with max_bytes 10"),
        ({"max_age": 3600 * SECOND}, "max_age"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject"),
        ({"sealed": True}, "sealed"),
        ({"retention": "interest"}, "retention interest"),
        ({"subjects": ["mail.out.>"]}, "subjects: mail.out.> do not contain mail.in.>"),
        ({"subjects": ["mail.in"]}, "subjects"),
        ({"subjects": None}, "subjects: none"),
        ({"duplicate_window": 59 * SECOND}, "duplicate_window: 59 s"),
        ({"duplicate_window": None}, "duplicate_window: 0 s"),
        ({"persist_mode": "async"}, "persist_mode async"),
        ({"max_msg_size": 4095}, "max_msg_size: 4095"),
    ],
)
def test_each_misconfiguration_is_one_error_with_its_name(changes: dict[str, Any], named: str) -> None:
    (found,) = problems(**changes)
    assert found.startswith(named)


def test_replicas_must_be_as_many_as_required() -> None:
    (found,) = problems(3, num_replicas=1)
    assert found.startswith("num_replicas: 1, and 3 are required")
    assert "?replicas=1" in found


def test_several_errors_are_all_reported() -> None:
    assert len(problems(storage="memory", no_ack=True, max_age=1, sealed=True)) == 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"storage": "memory"}, "storage"),
        ({"no_ack": True}, "no_ack"),
        ({"discard": "old", "max_msgs": 10}, "discard old with max_msgs 10"),
        ({"discard": "old", "max_bytes": 10}, "discard old with max_bytes 10"),
        ({"max_age": 3600 * SECOND}, "max_age"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject"),
        ({"sealed": True}, "sealed"),
        ({"retention": "interest"}, "retention interest"),
        ({"subjects": ["$O.MAIL.C.>"]}, "subjects: $O.MAIL.C.> do not contain $O.MAIL.M.>"),
        ({"subjects": ["$O.MAIL.M.>"]}, "subjects"),
        ({"duplicate_window": 59 * SECOND}, "duplicate_window: 59 s"),
        ({"persist_mode": "async"}, "persist_mode async"),
        ({"max_msg_size": 1000}, "max_msg_size: 1000"),
    ],
)
def test_an_object_bucket_is_checked_like_the_stream(changes: dict[str, Any], named: str) -> None:
    (found,) = check_bucket({**OBJECT_BUCKET, **changes}, bucket="MAIL", replicas=1, deadline=30.0)
    assert found.startswith(f"object bucket: {named}")


def test_an_object_bucket_as_the_documentation_makes_it_is_right() -> None:
    assert check_bucket(OBJECT_BUCKET, bucket="MAIL", replicas=1, deadline=30.0) == ()
    assert check_bucket({**OBJECT_BUCKET, "max_bytes": 10**9}, bucket="MAIL", replicas=1, deadline=30.0) == ()
    (found,) = check_bucket(OBJECT_BUCKET, bucket="MAIL", replicas=3, deadline=30.0)
    assert found.startswith("object bucket: num_replicas: 1, and 3 are required")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"durable_name": None}, "durable_name"),
        ({"deliver_subject": "x"}, "deliver_subject"),
        ({"ack_policy": "none"}, "ack_policy none"),
        ({"ack_policy": "all"}, "ack_policy all"),
        ({"max_deliver": 5}, "max_deliver 5"),
        ({"backoff": [SECOND]}, "backoff"),
        ({"ack_wait": 9 * SECOND}, "ack_wait: 9 s"),
        ({"deliver_policy": "new"}, "deliver_policy new"),
        ({"mem_storage": True}, "mem_storage"),
        ({"inactive_threshold": SECOND}, "inactive_threshold"),
        ({"headers_only": True}, "headers_only"),
        ({"max_batch": 5}, "max_batch"),
        ({"max_bytes": 5}, "max_bytes"),
        ({"max_expires": SECOND}, "max_expires"),
        ({"priority_groups": ["a"]}, "priority_groups"),
        ({"num_replicas": 1}, "num_replicas: 1, and 3 are required"),
        ({"filter_subject": "mail.out.>"}, "filter_subject"),
        ({"filter_subjects": ["mail.in.a", "b"]}, "filter_subject"),
    ],
)
def test_each_misconfiguration_of_a_consumer_is_one_error(changes: dict[str, Any], named: str) -> None:
    assert check_consumer(CONSUMER, subject="mail.in", ack_wait=10.0, replicas=3) == ()
    (found,) = check_consumer({**CONSUMER, **changes}, subject="mail.in", ack_wait=10.0, replicas=3)
    assert found.startswith(named)


@pytest.mark.parametrize(
    ("streams", "filters", "named"),
    [
        (["FAILED"], {}, ""),
        (["FAILED", "MAIL"], {"filter_subject": "mail.in.>"}, ""),
        ([], {}, "Failure_Subject: no stream has the subject mail.failed.>"),
        (["MAIL"], {}, "Failure_Subject: the consumer would take mail.failed.> again"),
        (["MAIL"], {"filter_subjects": ["mail.in.>", "mail.>"]}, "Failure_Subject: the consumer would take"),
    ],
)
def test_the_failure_subject_must_be_that_of_a_stream_and_not_taken_again(
    streams: list[str], filters: dict[str, Any], named: str
) -> None:
    found = check_failures({**CONSUMER, **filters}, stream="MAIL", failure_subject="mail.failed", streams=streams)
    assert len(found) == bool(named)
    assert "".join(found).startswith(named)


def test_the_results_of_many_recipients_must_fit() -> None:
    config = {"storage": "file", "discard": "new", "max_msgs_per_subject": 1, "num_replicas": 1}
    assert check_kv({**config, "max_msg_size": 1 << 20}, replicas=1, min_age=0) == ()
    (found,) = check_kv({**config, "max_msg_size": 1000}, replicas=1, min_age=0)
    assert found.startswith("key-value bucket: max_msg_size: 1000")
    (found,) = check_kv({**config, "no_ack": True}, replicas=1, min_age=0)
    assert found.startswith("key-value bucket: no_ack")


def test_results_must_be_kept_as_long_as_a_message() -> None:
    config = {"storage": "file", "discard": "new", "max_msgs_per_subject": 1, "num_replicas": 1}
    for age in (0, 100):
        assert check_kv({**config, "max_age": age * SECOND}, replicas=1, min_age=100.0) == ()
    (found,) = check_kv({**config, "max_age": 99 * SECOND}, replicas=1, min_age=100.0)
    assert found.startswith("key-value bucket: max_age: results are deleted after 99 s")


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("mail.in.>", "mail.in.>", True),
        ("mail.in.>", "mail.>", True),
        ("mail.in.>", ">", True),
        ("mail.in.>", "mail.*.>", True),
        ("mail.in.>", "*.*.>", True),
        ("mail.in.>", "mail.in.*", False),
        ("mail.in.>", "mail.in", False),
        ("mail.in.>", "mail.in.x.>", False),
        ("mail.in.>", "mail.out.>", False),
        ("mail.in.x", "mail.in.*", True),
        ("mail.in.x", "mail.in", False),
        ("mail.in", "mail.in.>", False),
        ("mail.*", "mail.in", False),
    ],
)
def test_a_pattern_contains_a_subject(subject: str, pattern: str, expected: bool) -> None:
    assert matches(subject, pattern) is expected
