"""Objects that no message names are deleted, by one consumer at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from nats_servers import JetStream, NATSProcess, publish_octets
from stream_messages import stream_message
from stream_site import open_delivery, stream_address

from triosmtp.jetstream import object_sweeper
from triosmtp.jetstream.consumer_source import ConsumerSource, ObjectMissingError
from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.object_sweeper import sweep_objects

BUCKETS: list[dict[str, Any]] = [
    {"name": "FAILED", "subjects": ["mail.failed.>"], "storage": "file"},
    {
        "name": "KV_R", "subjects": ["$KV.R.>"], "storage": "file", "discard": "new", "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
    },
]  # fmt: skip


@asynccontextmanager
async def open_source(server: NATSProcess) -> AsyncIterator[ConsumerSource]:
    source = ConsumerSource(
        stream_address(server), NATSLogin(), consumer="c", bucket="R", max_messages=1, on_message=lambda _: None
    )
    try:
        yield source
    finally:
        await source.thread.aclose()


@pytest.fixture
def objects(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch) -> JetStream:
    """Return a site on which every object is old enough."""
    monkeypatch.setattr(object_sweeper, "_MIN_AGE", -1000.0)
    for each in BUCKETS:
        jetstream.make(each)
    return jetstream


def names(jetstream: JetStream) -> set[str]:
    return {each.rpartition(".")[2] for each in jetstream.messages("OBJ_MAIL") if ".C." in each}


async def test_an_object_without_a_message_is_deleted(nats_server: NATSProcess, objects: JetStream) -> None:
    async with open_delivery(nats_server) as delivery:
        for number in (1, 2, 3):
            await delivery.deliver(stream_message(number, b"x" * 1_500_000))
    objects.ask("STREAM.PURGE.MAIL", {"filter": "mail.in.mx1-0a-1"})
    objects.ask("STREAM.PURGE.MAIL", {"filter": "mail.in.mx1-0a-2"})
    async with open_source(nats_server) as source:
        # The failed message still names the second one.
        await source.thread.call(source.publish, "mail.failed.mx1-0a-2", b"x", "f", None, 5.0)
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 1
    assert names(objects) == {"mx1-0a-2", "mx1-0a-3"}


async def test_an_object_whose_name_is_a_pattern_deletes_no_other_one(
    nats_server: NATSProcess, objects: JetStream
) -> None:
    """A server stores these subjects, although it calls them invalid."""
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    publish_octets(
        nats_server, *(b"PUB $O.MAIL.C.%s 1\r\nx\r\n" % each for each in (b"*", b">", b"\xff", b"a.b", b"*.x"))
    )
    async with open_source(nats_server) as source:
        await source.thread.call(source.publish, "$KV.R.c.mx1-0a-1", b"{}", "x", None, 5.0)
        publish_octets(nats_server, b"PUB $KV.R.c.* 2\r\n{}\r\n", b"PUB $KV.R.c.> 2\r\n{}\r\n")
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 0
    assert "mx1-0a-1" in names(objects)
    assert "$KV.R.c.mx1-0a-1" in objects.messages("KV_R")


async def test_an_object_of_a_longer_subject_stays(nats_server: NATSProcess, objects: JetStream) -> None:
    """The nodes publish under mail.in.eu, the consumer reads mail.in."""
    async with open_delivery(nats_server, subject="mail.in.eu") as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    async with open_source(nats_server) as source:
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 0
    assert names(objects) == {"mx1-0a-1"}


@pytest.mark.parametrize("lease", [b'{"until":"tomorrow"}', b"[]", b"[" * 30_000, b'{"until":null,"holder":7}'])
async def test_a_malformed_lease_is_none(nats_server: NATSProcess, objects: JetStream, lease: bytes) -> None:
    async with open_source(nats_server) as source:
        await source.thread.call(source.put_result, "sweeper", lease)
        assert await source.thread.call(object_sweeper._take_lease, source) is True
    assert objects.messages("KV_R").keys() == {"$KV.R.c.sweeper"}


async def test_a_young_object_stays(
    nats_server: NATSProcess, objects: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_sweeper, "_MIN_AGE", 3600.0)
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    objects.ask("STREAM.PURGE.MAIL")
    async with open_source(nats_server) as source:
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 0
    assert names(objects) == {"mx1-0a-1"}


async def test_results_of_a_message_that_is_gone_are_deleted(
    nats_server: NATSProcess, objects: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer died between the acknowledgement and their deletion.  Those of other messages and consumers stay."""
    async with open_delivery(nats_server) as delivery, open_source(nats_server) as source:
        await delivery.deliver(stream_message(1))
        for name in ("mx1-0a-1", "mx1-0a-2"):
            await source.thread.call(source.write_results, name, {"0": [250, "2.0.0", "ok"]})
        await source.thread.call(source.publish, "$KV.R.other.mx1-0a-2", b"{}", "x", None, 5.0)
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 1
        with monkeypatch.context() as young:
            young.setattr(object_sweeper, "_MIN_AGE", 3600.0)
            objects.ask("STREAM.PURGE.MAIL")
            assert await source.thread.call(sweep_objects, source, "mail.failed") == 0
    assert objects.messages("KV_R").keys() == {"$KV.R.c.sweeper", "$KV.R.c.mx1-0a-1", "$KV.R.other.mx1-0a-2"}


async def test_the_lease_of_a_consumer_that_died_ends(
    nats_server: NATSProcess, objects: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    objects.ask("STREAM.PURGE.MAIL")
    async with open_source(nats_server) as dead, open_source(nats_server) as other:
        assert await dead.thread.call(object_sweeper._take_lease, dead) is True
        assert await other.thread.call(sweep_objects, other, "mail.failed") == 0
        with monkeypatch.context() as later:
            later.setattr(object_sweeper, "datetime", Later)
            assert await other.thread.call(sweep_objects, other, "mail.failed") == 1


class Later(datetime):
    """The time when the lease has ended."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=object_sweeper._LEASE + 1)


@pytest.mark.parametrize("left", [0, 1])
async def test_an_object_whose_deletion_was_cut_off_is_deleted(
    nats_server: NATSProcess, objects: JetStream, left: int
) -> None:
    """A consumer died before it, or between its two steps."""
    async with open_delivery(nats_server) as delivery, open_source(nats_server) as source:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
        objects.ask("STREAM.PURGE.MAIL")
        ask, steps = source.ask, iter(range(left))

        async def die(request: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
            if next(steps, None) is None:
                raise NATSUnavailableError("killed")
            return await ask(request, body)

        source.ask = die  # type: ignore[method-assign]
        with pytest.raises(NATSUnavailableError):
            await source.thread.call(source.delete_object, "mx1-0a-1")
        source.ask = ask  # type: ignore[method-assign]
        assert len(objects.messages("OBJ_MAIL")) == 2 - left
        assert await source.thread.call(sweep_objects, source, "mail.failed") == 1
    assert objects.messages("OBJ_MAIL") == {}


async def test_one_consumer_sweeps_at_a_time(nats_server: NATSProcess, objects: JetStream) -> None:
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1, b"x" * 1_500_000))
    objects.ask("STREAM.PURGE.MAIL")
    async with open_source(nats_server) as first, open_source(nats_server) as second:
        assert await first.thread.call(object_sweeper._take_lease, first) is True
        assert await second.thread.call(sweep_objects, second, "mail.failed") == 0
        assert await first.thread.call(sweep_objects, first, "mail.failed") == 1


async def test_a_missing_object_is_an_error(nats_server: NATSProcess, objects: JetStream) -> None:
    async with open_source(nats_server) as source:
        with pytest.raises(ObjectMissingError):
            await source.thread.call(source.read_object, "nothing", 1, None)
