"""Three servers of NATS with three replicas: acknowledged messages are stored once, also if servers are killed."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import CONFIGURATION as CONSUMERS
from consume_site import CONSUMER, FAILED, RESULTS, mails, wait_empty
from fortress import JUDGE
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, free_ports, run_cluster
from serve_process import COMMAND, ServeProcess, environment_of, start_server
from stream_messages import stream_message
from stream_site import open_delivery
from tcp_proxy import TCPProxy

from triosmtp.delivery import DeliveryError
from triosmtp.jetstream.message_codec import decode_message
from triosmtp.jetstream.stream_delivery import StreamDelivery
from triosmtp.testing import ScriptedClient

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


# At full size


CONFIGURATION = """
Node_Name = "{name}"
Relay_Domains = ( "example.org" )
Connections_Per_Peer = 0
Deliver_To = "queue"
Delivery "queue" {{ Deliver_To = "nats://{hosts}/MAIL/mail.in" Delivery_Grace = 600 }}
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}
"""
MESSAGES = 6_000
SENDERS = 16
TOKEN = re.compile(rb"X-Token: (\d+)\r?\n")


class Site:
    """Two nodes in front of a cluster, senders, and the record of what they were answered."""

    def __init__(self, folder: Path, servers: list[NATSProcess]) -> None:
        self.servers = servers
        self.folder = folder
        self.ports = free_ports(2)
        self.proxies = [TCPProxy(each.port) for each in servers]
        self.nodes: dict[int, ServeProcess] = {}
        self.accepted: set[int] = set()
        self.uncertain: Counter[int] = Counter()
        """Attempts that ended without 250, by message: the message may be stored."""
        self.progress = trio.Event()
        self.consumers: dict[int, subprocess.Popen[bytes]] = {}
        self._numbers = iter(range(MESSAGES))

    async def start_node(self, number: int) -> None:
        """Start a node, and wait until it serves.  The first one reaches the cluster through the proxies."""
        ports = [each.port for each in (self.proxies if number == 0 else self.servers)]
        path = self.folder / f"mx{number}.conf"
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        path.write_text(CONFIGURATION.format(name=f"mx{number}", hosts=hosts, port=self.ports[number]))
        arguments = ("-c", str(path), "--control", str(self.folder / f"control{number}"))
        node = self.nodes[number] = start_server(*arguments, log=self.folder / f"log{number}")
        await trio.to_thread.run_sync(node.wait_until_ready)

    def start_consumer(self, number: int) -> None:
        """Start a consumer that delivers to the Maildir of the site."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers)
        path = self.folder / f"consumer{number}.conf"
        text = CONSUMERS.format(port=0, target=f"maildir:{self.folder}/Maildir", options="")
        path.write_text(text.replace("127.0.0.1:0", hosts).replace("?replicas=1", ""))
        with (self.folder / f"consumer{number}.log").open("ab") as log:
            command = [*COMMAND, "consume", "-c", str(path)]
            self.consumers[number] = subprocess.Popen(command, stderr=log, env=environment_of())

    def stop_consumers(self) -> None:
        """Kill all consumers."""
        for each in self.consumers.values():
            each.kill()
            each.wait()

    async def send_all(self, first: int) -> None:
        """Send messages, each until it is accepted, to the nodes in turn."""
        for number in self._numbers:
            node = first
            while number not in self.accepted:
                node = (node + 1) % 2
                try:
                    code = await self._send(self.ports[node], number)
                except (OSError, EOFError, trio.BrokenResourceError):
                    code = 0
                if code == 250:
                    self.accepted.add(number)
                else:
                    self.uncertain[number] += 1
                    await trio.sleep(0.2)
            self.progress.set()
            self.progress = trio.Event()

    async def _send(self, port: int, number: int) -> int:
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", port))
        try:
            await client.read()
            await client.command("EHLO c.example")
            body = b"X-Token: %d\r\n\r\n%s\r\n" % (number, b"x" * 2000)
            return (await client.message("me@example.com", ["joe@example.org"], body)).code
        finally:
            await client.aclose()

    async def reach(self, count: int) -> None:
        """Wait until so many messages are accepted."""
        while len(self.accepted) < count:
            await self.progress.wait()

    async def break_things(self) -> None:
        """Kill the leader, kill a node, cut a node off, kill all servers: each at its share of the messages."""
        run = trio.to_thread.run_sync
        await self.reach(MESSAGES // 10)
        leader = await run(leader_of, self.servers)
        leader.kill()
        await self.reach(2 * MESSAGES // 10)
        await run(leader.start)
        await self.reach(3 * MESSAGES // 10)
        self.nodes[1].process.kill()
        self.nodes[1].wait()
        self.close(1)
        await self.start_node(1)
        await self.reach(4 * MESSAGES // 10)
        if self.consumers:
            self.consumers[0].kill()
            await run(self.consumers[0].wait)
            self.start_consumer(0)
        await self.reach(5 * MESSAGES // 10)
        for each in self.proxies:
            each.cut()
        await trio.sleep(15)
        for each in self.proxies:
            each.heal()
        await self.reach(7 * MESSAGES // 10)
        for server in self.servers:
            server.kill()
        for server in self.servers:
            await run(server.start)

    def close(self, number: int) -> None:
        """Release the pipe of a node that has ended."""
        node = self.nodes.pop(number)
        assert node.process.stdout is not None
        node.process.stdout.close()


async def run_site(site: Site) -> None:
    """Send all messages while things break."""
    async with trio.open_nursery() as background:
        for proxy in site.proxies:
            await background.start(proxy.run)
        try:
            await site.start_node(0)
            await site.start_node(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(site.break_things)
                for number in range(SENDERS):
                    nursery.start_soon(site.send_all, number % 2)
        finally:
            for number in tuple(site.nodes):
                site.nodes[number].process.kill()
                site.nodes[number].wait()
                site.close(number)
        background.cancel_scope.cancel()


def audit(site: Site, stored: Iterable[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    """Check that nothing accepted is lost, and that a sender without 250 explains each double."""
    copies: Counter[int] = Counter()
    for each in stored:
        token = TOKEN.search(each)
        assert token is not None
        copies[int(token[1])] += 1
    lost = [number for number in site.accepted if not copies[number]]
    doubled = {number: count for number, count in copies.items() if count > 1}
    unexplained = [number for number, count in doubled.items() if count > 1 + site.uncertain[number]]
    with capsys.disabled():
        print(
            f"\n{len(site.accepted)} accepted, {copies.total()} stored, {site.uncertain.total()} attempts without 250, "
            f"{len(doubled)} messages doubled, {len(unexplained)} of them unexplained, {len(lost)} lost"
        )
    assert (lost, unexplained) == ([], [])


def make_streams(cluster: list[NATSProcess], retention: str) -> JetStream:
    """Make the streams, the buckets and the consumer, empty and with three replicas."""
    jetstream = JetStream(*cluster)
    for config in {**STREAM, "retention": retention}, OBJECT_BUCKET, FAILED, RESULTS:
        jetstream.ask(f"STREAM.DELETE.{config['name']}")
        jetstream.make_when_possible({**config, **REPLICATED})
    consumer = {"stream_name": "MAIL", "config": CONSUMER}
    while "error" in jetstream.ask("CONSUMER.DURABLE.CREATE.MAIL.triosmtp", consumer):
        pass
    return jetstream


@pytest.mark.skipif(not JUDGE, reason="takes minutes: TRIOSMTP_JUDGE=1")
async def test_nothing_is_lost_and_every_double_is_explained(
    tmp_path: Path, cluster: list[NATSProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    run = trio.to_thread.run_sync
    jetstream = await run(make_streams, cluster, "limits")
    site = Site(tmp_path, cluster)
    await run_site(site)
    subjects = await run(stored, cluster)
    assert set(subjects.values()) == {1}  # each id at most once
    payloads = await run(jetstream.messages)
    audit(site, [decode_message(each).octets for each in payloads.values()], capsys)


@pytest.mark.skipif(not JUDGE, reason="takes minutes: TRIOSMTP_JUDGE=1")
async def test_nothing_is_lost_on_the_way_to_the_mailbox(
    tmp_path: Path, cluster: list[NATSProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two consumers deliver to a Maildir meanwhile; one of them is killed, too."""
    run = trio.to_thread.run_sync
    jetstream = await run(make_streams, cluster, "workqueue")
    site = Site(tmp_path, cluster)
    for number in range(2):
        site.start_consumer(number)
    try:
        await run_site(site)
        await run(wait_empty, jetstream)
    finally:
        site.stop_consumers()
    assert await run(jetstream.messages, "FAILED") == {}
    audit(site, mails(tmp_path / "Maildir"), capsys)
