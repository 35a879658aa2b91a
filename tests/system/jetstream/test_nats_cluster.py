"""Three servers of NATS with three replicas: acknowledged messages are stored once, also if servers are killed."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, run_cluster
from stream_messages import stream_message
from stream_site import open_delivery

from triosmtp.delivery import DeliveryError
from triosmtp.jetstream.stream_delivery import StreamDelivery

REPLICATED = {"num_replicas": 3}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NATSProcess]]:
    with run_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        jetstream = JetStream(*servers)
        jetstream.make_when_possible({**STREAM, **REPLICATED})
        jetstream.make_when_possible({**OBJECT_BUCKET, **REPLICATED})
        yield servers


def leader_of(servers: list[NATSProcess]) -> NATSProcess:
    """Return the server that leads the stream."""
    info = JetStream(*(each for each in servers if each.runs)).ask("STREAM.INFO.MAIL")
    return servers[int(info["cluster"]["leader"].removeprefix("n"))]


def stored(servers: list[NATSProcess]) -> dict[str, int]:
    """Return how often each subject is in the stream."""
    info: dict[str, Any] = JetStream(*(each for each in servers if each.runs)).ask(
        "STREAM.INFO.MAIL", {"subjects_filter": ">"}
    )
    return dict(info["state"].get("subjects") or {})


async def test_nothing_that_was_acknowledged_is_lost_when_the_leader_is_killed(cluster: list[NATSProcess]) -> None:
    acknowledged: list[str] = []
    refused: list[str] = []
    enough = trio.Event()

    async def send(delivery: StreamDelivery, numbers: Iterator[int]) -> None:
        for number in numbers:
            message = stream_message(number)
            try:
                await delivery.deliver(message)
            except DeliveryError:
                refused.append(message.id)
            else:
                acknowledged.append(message.id)
            if len(acknowledged) == 100:
                enough.set()

    async with open_delivery(*cluster, replicas=3) as delivery:
        numbers = iter(range(400))
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(send, delivery, numbers)
            await enough.wait()
            leader = await trio.to_thread.run_sync(leader_of, cluster)
            leader.kill()
    await trio.to_thread.run_sync(leader.start)
    found = await trio.to_thread.run_sync(stored, cluster)
    assert len(acknowledged) + len(refused) == 400
    assert [each for each in acknowledged if found.get(f"mail.in.{each}") != 1] == []
    assert set(found.values()) == {1}
    assert refused == []  # another leader was elected within the deadline
