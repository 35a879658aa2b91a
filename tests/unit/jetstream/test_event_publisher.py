"""Events that are published: what is heard, what is lost and counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from nats_servers import JetStream, NATSProcess, free_ports, run_nats

from triosmtp.config.types.target_url import parse_events_address
from triosmtp.event import Connected, ServerEvent, SessionInfo, TLSFailed
from triosmtp.jetstream import event_publisher
from triosmtp.jetstream.event_publisher import EventPublisher
from triosmtp.jetstream.event_subscriber import receive_events
from triosmtp.jetstream.nats_client import NATSLogin

SESSION = SessionInfo(id="mx1-0a-1", peer="192.0.2.1:25", local="192.0.2.2:25", listener=":25")
OPENED = Connected(session=SESSION, variables={"tls": "x"})


def publisher_of(port: int) -> EventPublisher:
    address = parse_events_address(f"nats://127.0.0.1:{port}/triosmtp.events")
    return EventPublisher(address, NATSLogin(), "mx1")


def receive(port: int, count: int, ready: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the first events that are published; call ``ready`` when the subscription is in force."""
    found: list[tuple[str, dict[str, Any]]] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None

        def show(method: str, params: dict[str, Any]) -> None:
            found.append((method, params))
            if len(found) == count:
                task.cancel()

        address = parse_events_address(f"nats://127.0.0.1:{port}/triosmtp.events")
        await receive_events(address, NATSLogin(), show, lambda failure: ready() if not failure else None)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    return found


async def published(
    port: int, publisher: EventPublisher, events: list[ServerEvent]
) -> list[tuple[str, dict[str, Any]]]:
    """Return what a subscriber receives if these events happen."""
    found: list[tuple[str, dict[str, Any]]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        ready = trio.Event()
        token = trio.lowlevel.current_trio_token()

        async def subscribe() -> None:
            found.extend(
                await trio.to_thread.run_sync(receive, port, len(events), lambda: token.run_sync_soon(ready.set))
            )
            nursery.cancel_scope.cancel()

        nursery.start_soon(subscribe)
        await ready.wait()
        for event in events:
            publisher.subscription(event)
    return found


async def test_events_are_those_that_observers_of_the_policy_service_receive(nats_server: NATSProcess) -> None:
    events: list[ServerEvent] = [OPENED, TLSFailed(session=SESSION, reason="protocol", detail="x")]
    opened, failed = await published(nats_server.port, publisher_of(nats_server.port), events)
    assert opened[0] == "session.opened"
    assert {**opened[1], "time": ""} == {
        "sequence": 1,
        "time": "",
        "node": "mx1",
        "session": SESSION.id,
        "peer": SESSION.peer,
        "listener": SESSION.listener,
        "local": SESSION.local,
        "variables": {"tls": "x"},
    }
    assert failed[0] == "session.tls_failed"
    assert failed[1]["detail"] == "x"


async def test_the_subject_has_the_node_and_the_method(nats_server: NATSProcess) -> None:
    async with trio.open_nursery() as nursery:
        publisher = publisher_of(nats_server.port)
        nursery.start_soon(publisher.run)

        def subject() -> str:
            async def next_subject(client: Any) -> str:
                subscription = await client.subscribe("triosmtp.events.mx1.*.*")
                await client.flush()
                trio.from_thread.run_sync(publisher.subscription, OPENED, trio_token=token)
                return str((await subscription.next_msg(timeout=10)).subject)

            return JetStream(nats_server).run(next_subject)

        token = trio.lowlevel.current_trio_token()
        assert await trio.to_thread.run_sync(subject) == "triosmtp.events.mx1.session.opened"
        nursery.cancel_scope.cancel()


async def test_without_a_server_events_are_kept_within_bounds_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_publisher, "MAX_EVENTS", 3)
    publisher = publisher_of(free_ports(1)[0])
    for _ in range(5):
        publisher.subscription(OPENED)
    assert publisher.lost == 2
    assert len([each for each in caplog.messages if "events lost" in each]) == 1


async def test_the_next_event_tells_how_many_were_lost(
    nats_server: NATSProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_publisher, "_MAX_EVENT", 400)
    publisher = publisher_of(nats_server.port)
    publisher.subscription(Connected(session=SESSION, variables={"x": "y" * 500}))
    (opened,) = await published(nats_server.port, publisher, [OPENED])
    assert (opened[1]["lost"], opened[1]["sequence"], publisher.lost) == (1, 2, 1)


async def test_an_event_that_the_server_does_not_accept_is_lost_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server would close the connection."""
    with run_nats(tmp_path, "max_payload: 2048\n") as server:
        publisher = publisher_of(server.port)
        publisher.subscription(Connected(session=SESSION, variables={"x": "y" * 3000}))
        (opened,) = await published(server.port, publisher, [OPENED])
    assert (opened[1]["sequence"], publisher.lost) == (2, 1)
    assert "max_payload is 2048" in caplog.text
    assert "connection lost" not in caplog.text
