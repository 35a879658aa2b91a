"""Delivery to a stream of a real server: what is acknowledged is stored, once, and complete."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, free_ports, run_nats
from stream_messages import stream_message
from stream_site import open_delivery

from triosmtp.delivery import DeliveryError
from triosmtp.jetstream import stream_delivery
from triosmtp.jetstream.message_codec import decode_message
from triosmtp.message.spool import Spool


async def test_a_message_is_in_the_stream_when_deliver_returns(nats_server: NATSProcess, jetstream: JetStream) -> None:
    message = stream_message()
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(message)
        assert delivery.failure == ""
    (found,) = jetstream.messages().items()
    assert found[0] == "mail.in.mx1-0a-1"
    read = decode_message(found[1])
    assert read.octets == message.trace + await message.body.part(0, 1000)
    assert read.document.envelope == message.envelope
    assert (read.document.id, read.document.node) == (message.id, "mx1")


async def test_the_same_id_is_stored_once(nats_server: NATSProcess, jetstream: JetStream) -> None:
    async with open_delivery(nats_server) as delivery:
        places = [await delivery.deliver(stream_message()) for _ in range(2)]
    assert places == ["stream MAIL, sequence 1", "stream MAIL, sequence 1, a duplicate"]
    assert len(jetstream.messages()) == 1


async def test_many_messages_at_once_are_all_stored(nats_server: NATSProcess, jetstream: JetStream) -> None:
    async with open_delivery(nats_server) as delivery, trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(delivery.deliver, stream_message(number))
        # The delivery ends when all have returned.
        await wait_for_children(nursery)
    assert len(jetstream.messages()) == 200


async def wait_for_children(nursery: trio.Nursery) -> None:
    while nursery.child_tasks:
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.01)


async def test_a_large_message_is_an_object_first(
    nats_server: NATSProcess, jetstream: JetStream, tmp_path: Path
) -> None:
    content = b"Subject: large\r\n\r\n" + bytes(range(256)) * 12_000
    spool = Spool(tmp_path)
    spool.add(content)
    await spool.flush()
    message = stream_message(content=await spool.finish())
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(message)
    message.body.close()
    ((_, payload),) = jetstream.messages().items()
    document = decode_message(payload).document
    assert document.object is not None
    assert (document.object.bucket, document.object.name) == ("MAIL", message.id)
    octets = message.trace + content
    assert (document.size, document.sha256) == (len(octets), hashlib.sha256(octets).hexdigest())

    async def get(client: object) -> bytes:
        store = await client.jetstream().object_store("MAIL")  # type: ignore[attr-defined]
        return (await store.get(message.id)).data  # type: ignore[no-any-return] # nats-py checks the digest

    assert jetstream.run(get) == octets


async def test_a_message_just_below_and_just_above_the_maximum_is_stored(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    """The document counts, too: near the limit a message may be either in the payload or an object."""
    async with open_delivery(nats_server) as delivery:
        for number in range(1_000_000, 1_060_000, 4_000):
            await delivery.deliver(stream_message(number, b"x" * number))
    messages = jetstream.messages()
    assert len(messages) == 15
    kinds = [decode_message(payload).document.object is not None for payload in messages.values()]
    assert kinds == sorted(kinds)
    assert set(kinds) == {False, True}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"storage": "memory"}, "storage"),
        ({"no_ack": True}, "no_ack"),
        ({"max_age": 3_600_000_000_000}, "max_age"),
        ({"discard": "old", "max_bytes": 1_000_000}, "discard old"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"retention": "interest"}, "retention interest"),
        ({"subjects": ["other.>"]}, "subjects"),
        ({"duplicate_window": 1_000_000_000}, "duplicate_window"),
        ({"persist_mode": "async"}, "persist_mode"),
    ],
)
async def test_mail_is_refused_while_the_stream_is_misconfigured(
    nats_server: NATSProcess, jetstream: JetStream, changes: dict[str, object], named: str
) -> None:
    """As the real server describes such a stream."""
    jetstream.make({**STREAM, **changes})
    async with open_delivery(nats_server) as delivery:
        (problem,) = (await delivery.query()).problems
        assert problem.startswith(named)
        with pytest.raises(DeliveryError, match=named) as caught:
            await delivery.deliver(stream_message())
        assert caught.value.code == 451
        assert named in delivery.failure


async def test_a_sealed_stream_or_a_missing_one_refuses_mail(nats_server: NATSProcess, jetstream: JetStream) -> None:
    assert "error" not in jetstream.ask("STREAM.UPDATE.MAIL", {**STREAM, "sealed": True, "deny_delete": True})
    async with open_delivery(nats_server) as delivery:
        assert any(each.startswith("sealed") for each in (await delivery.query()).problems)
    jetstream.ask("STREAM.DELETE.MAIL")
    async with open_delivery(nats_server) as delivery:
        assert (await delivery.query()).problems == ("there is no stream MAIL",)
    jetstream.make(STREAM)
    jetstream.ask("STREAM.DELETE.OBJ_MAIL")
    async with open_delivery(nats_server) as delivery:
        assert (await delivery.query()).problems == ("there is no object bucket MAIL",)


async def test_interest_retention_is_right_with_a_durable_consumer(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    jetstream.make({**STREAM, "retention": "interest"})
    consumer = {"durable_name": "triosmtp", "ack_policy": "explicit"}
    jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.triosmtp", {"stream_name": "MAIL", "config": consumer})
    async with open_delivery(nats_server) as delivery:
        assert (await delivery.query()).problems == ()


async def test_a_consumer_of_other_subjects_does_not_keep_mail(nats_server: NATSProcess, jetstream: JetStream) -> None:
    jetstream.make({**STREAM, "retention": "interest"})
    consumer = {"durable_name": "other", "ack_policy": "explicit", "filter_subject": "mail.in.*.x"}
    jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.other", {"stream_name": "MAIL", "config": consumer})
    async with open_delivery(nats_server) as delivery:
        (problem,) = (await delivery.query()).problems
        assert problem.startswith("retention interest: without a durable consumer of mail.in.>")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"storage": "memory"}, "storage"),
        ({"no_ack": True}, "no_ack"),
        ({"max_age": 3_600_000_000_000}, "max_age"),
        ({"discard": "old", "max_bytes": 1_000_000}, "discard old"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"retention": "interest"}, "retention interest"),
        ({"subjects": ["$O.MAIL.M.>"]}, "subjects"),
        ({"duplicate_window": 1_000_000_000}, "duplicate_window"),
        ({"persist_mode": "async"}, "persist_mode"),
    ],
)
async def test_mail_is_refused_while_the_object_bucket_is_misconfigured(
    nats_server: NATSProcess, jetstream: JetStream, changes: dict[str, object], named: str
) -> None:
    """As the real server describes such a bucket."""
    jetstream.make({**OBJECT_BUCKET, **changes})
    async with open_delivery(nats_server) as delivery:
        with pytest.raises(DeliveryError, match=f"object bucket: {named}") as caught:
            await delivery.deliver(stream_message())
        assert caught.value.code == 451


@pytest.mark.parametrize(
    ("max_payload", "changes"), [(8192, {}), (1_048_576, {"max_msg_size": 5000}), (8192, {"max_msg_size": 4096})]
)
async def test_the_parts_of_an_object_fit_the_server_and_the_bucket(
    tmp_path: Path, max_payload: int, changes: dict[str, int]
) -> None:
    message = stream_message(1, b"Subject: x\r\n\r\n" + bytes(range(256)) * 200)
    with run_nats(tmp_path, f"max_payload: {max_payload}\n") as server:
        jetstream = JetStream(server)
        jetstream.make({**STREAM, "max_msg_size": 8192})
        jetstream.make({**OBJECT_BUCKET, **changes})
        async with open_delivery(server) as delivery:
            await delivery.deliver(message)
        ((_, payload),) = jetstream.messages().items()
        document = decode_message(payload).document

        async def get(client: Any) -> tuple[bytes, int]:
            store = await client.jetstream().object_store("MAIL")
            found = await store.get(message.id)  # nats-py checks the digest
            return found.data, found.info.chunks

        data, parts = jetstream.run(get)
        assert hashlib.sha256(data).hexdigest() == document.sha256
        assert len(data) == document.size
        assert parts > len(data) // min(max_payload, changes.get("max_msg_size", max_payload))


async def test_an_envelope_that_does_not_fit_is_deferred_and_stores_nothing(tmp_path: Path) -> None:
    with run_nats(tmp_path, "max_payload: 4096\n") as server:
        jetstream = JetStream(server)
        jetstream.make(STREAM)
        jetstream.make(OBJECT_BUCKET)
        large = evolve(stream_message(1, b"x" * 9000), variables={"x": "y" * 4000})
        async with open_delivery(server) as delivery:
            with pytest.raises(DeliveryError, match="the envelope and the contexts have 4") as caught:
                await delivery.deliver(large)
            assert caught.value.code == 451
            await delivery.deliver(stream_message(2))
        assert list(jetstream.messages()) == ["mail.in.mx1-0a-2"]
        assert jetstream.messages("OBJ_MAIL") == {}


async def test_a_server_that_accepts_too_little_is_named(tmp_path: Path) -> None:
    with run_nats(tmp_path, "max_payload: 2048\n") as server:
        jetstream = JetStream(server)
        jetstream.make(STREAM)
        jetstream.make(OBJECT_BUCKET)
        async with open_delivery(server) as delivery:
            assert (await delivery.query()).problems == ("max_payload: 2048, at least 4096 octets are needed",)


async def test_a_full_stream_is_insufficient_storage(nats_server: NATSProcess, jetstream: JetStream) -> None:
    jetstream.make({**STREAM, "max_msgs": 1})
    async with open_delivery(nats_server) as delivery:
        await delivery.deliver(stream_message(1))
        with pytest.raises(DeliveryError) as caught:
            await delivery.deliver(stream_message(2))
        assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")


async def test_a_bucket_that_is_full_leaves_no_message(nats_server: NATSProcess, jetstream: JetStream) -> None:
    jetstream.make({**OBJECT_BUCKET, "max_bytes": 300_000})
    async with open_delivery(nats_server) as delivery:
        with pytest.raises(DeliveryError) as caught:
            await delivery.deliver(stream_message(1, b"x" * 3_000_000))
        assert caught.value.code == 452
    assert jetstream.messages() == {}


async def test_without_a_server_mail_is_deferred_and_the_failure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_delivery, "_FACTS_WAIT", 1.0)
    (port,) = free_ports(1)
    async with open_delivery(servers=(("127.0.0.1", port),)) as delivery:
        with pytest.raises(DeliveryError, match=f"127.0.0.1:{port}"):
            await delivery.deliver(stream_message())
        with trio.fail_after(10):
            while "Connect call failed" not in delivery.failure:  # noqa: ASYNC110 - it changes in a thread
                await trio.sleep(0.01)


async def test_a_restarted_server_is_used_again(tmp_path: Path) -> None:
    """A message that comes while the server is away waits for it, and is stored once."""
    with run_nats(tmp_path) as server:
        jetstream = JetStream(server)
        jetstream.make(STREAM)
        jetstream.make(OBJECT_BUCKET)
        async with open_delivery(server) as delivery:
            await delivery.deliver(stream_message(1))
            server.kill()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(delivery.deliver, stream_message(2))
                await trio.to_thread.run_sync(server.start)
            await delivery.deliver(stream_message(3))
        assert list(jetstream.messages()) == [f"mail.in.mx1-0a-{number}" for number in (1, 2, 3)]


async def test_a_cancelled_delivery_returns_at_once_and_leaves_no_thread(
    nats_server: NATSProcess, jetstream: JetStream
) -> None:
    before = threading.active_count()
    async with open_delivery(nats_server) as delivery:
        await delivery.query()
        with trio.CancelScope() as scope:
            scope.cancel()
            await delivery.deliver(stream_message())
        assert scope.cancelled_caught
        await delivery.deliver(stream_message(2))
    names = {each.name for each in threading.enumerate()}
    assert "triosmtp-nats" not in names
    assert threading.active_count() <= before + 1  # of Trio's own pool


async def test_a_closed_delivery_refuses(nats_server: NATSProcess) -> None:
    async with open_delivery(nats_server) as delivery:
        await delivery.aclose()
        with pytest.raises(DeliveryError, match="closed"):
            await delivery.deliver(stream_message())
        await delivery.aclose()
