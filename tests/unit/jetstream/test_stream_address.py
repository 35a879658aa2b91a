"""The stream that an address names."""

import pytest

from triosmtp.config import parse_config
from triosmtp.jetstream.stream_address import StreamAddress, stream_address

SERVERS = (("n1", 4222), ("::1", 4223))


def address_of(text: str, options: str = "") -> StreamAddress:
    config = parse_config(
        f'Delivery "d" {{ Deliver_To = "{text}" {options} }} Deliver_To = "d" ESMTP_Listener {{ Listen ":25" {{ }} }}'
    )
    return stream_address(config.target("d"))


def test_the_bucket_has_the_name_of_the_stream_and_three_replicas_are_required() -> None:
    found = address_of("nats://n1,[::1]:4223/MAIL/mail.in")
    assert found == StreamAddress(servers=SERVERS, stream="MAIL", subject="mail.in", bucket="MAIL")
    assert (found.replicas, found.deadline) == (3, 30.0)
    assert str(found) == "nats://n1:4222,[::1]:4223/MAIL/mail.in"


@pytest.mark.parametrize("query", ["replicas=1&bucket=B-1", "bucket=B-1&replicas=1"])
def test_the_query_changes_both(query: str) -> None:
    found = address_of(f"nats://n1/MAIL/mail.in?{query}")
    assert (found.replicas, found.bucket) == (1, "B-1")


def test_body_timeout_is_the_deadline() -> None:
    assert address_of("nats://n1/MAIL/mail.in", "Body_Timeout = 10").deadline == 10.0
