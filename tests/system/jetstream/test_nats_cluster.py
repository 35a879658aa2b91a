"""Three servers of NATS with three replicas: acknowledged messages are stored once, also if servers are killed."""

import random
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import CONFIGURATION as CONSUMERS
from consume_site import CONSUMER, FAILED, RESULTS, mails
from fortress import JUDGE
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, free_ports, run_cluster
from private_dovecot import Dovecot, running_dovecot
from serve_process import COMMAND, ServeProcess, environment_of, start_server
from stream_messages import stream_message
from stream_site import open_delivery
from tcp_proxy import TCPProxy

from examples.fleet.audit import explain_doubles, read_redeliveries
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
Relay_Domains = ( "example.com" )
Connections_Per_Peer = 0
Deliver_To = "queue"
Delivery "queue" {{ Deliver_To = "nats://{hosts}/MAIL/mail.in" Delivery_Grace = 600 }}
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}
"""
MESSAGES = 20_000
SENDERS = 16
CONCURRENCY = 10
"""Messages that a consumer delivers at the same time, and so the most that it can double if it is killed."""
RECIPIENTS = ["a@example.com", "b@example.com"]
TOKEN = re.compile(rb"X-Token: (\d+)\r?\n")
ID = re.compile(rb"\bid (mx\d-[0-9a-zA-Z-]+)")
RECIPIENT = re.compile(rb"^Delivered-To: <?([^>\s]+)", re.MULTILINE)
NOT_SETTLED = (": not settled: ", " is not confirmed, ")
"""A consumer logs these if it lost the servers, and may deliver a message again."""
Copies = Mapping[tuple[int, str], Mapping[str, int]]
"""How often each id was found, by message and recipient."""


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
        self.target = ""
        """The target of the consumers."""
        self.kills = 0
        """How many consumers were killed."""
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
        """Start a consumer that delivers to the target of the site."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers)
        path = self.folder / f"consumer{number}.conf"
        text = CONSUMERS.format(port=0, target=self.target, options=f"Concurrency = {CONCURRENCY}")
        path.write_text(text.replace("127.0.0.1:0", hosts).replace("?replicas=1", ""))
        with (self.folder / f"consumer{number}.log").open("ab") as log:
            command = [*COMMAND, "consume", "-c", str(path)]
            self.consumers[number] = subprocess.Popen(command, stderr=log, env=environment_of())

    async def kill_consumers(self, seed: int) -> None:
        """Kill a consumer at random moments, and start it again, until cancelled."""
        choice = random.Random(seed)
        while True:
            await trio.sleep(choice.uniform(1, 6))
            self.restart_consumer(choice.randrange(len(self.consumers)))

    def restart_consumer(self, number: int) -> None:
        """Kill a consumer, and start it again."""
        self.consumers[number].kill()
        self.consumers[number].wait()
        self.kills += 1
        self.start_consumer(number)

    @property
    def logs(self) -> list[str]:
        """The logs of the consumers."""
        return [each.read_text(errors="replace") for each in self.folder.glob("consumer*.log")]

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
            return (await client.message("me@example.org", RECIPIENTS, body)).code
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
            self.restart_consumer(0)
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


async def run_site(site: Site, seed: int | None = None) -> None:
    """Send all messages while things break; with ``seed``, consumers are also killed at random moments."""
    async with trio.open_nursery() as background:
        for proxy in site.proxies:
            await background.start(proxy.run)
        try:
            await site.start_node(0)
            await site.start_node(1)
            if seed is not None:
                background.start_soon(site.kill_consumers, seed)
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


async def wait_until_delivered(jetstream: JetStream) -> None:
    """Wait until the stream is empty."""
    while (await trio.to_thread.run_sync(jetstream.ask, "STREAM.INFO.MAIL"))["state"]["messages"]:  # noqa: ASYNC110
        await trio.sleep(0.5)  # the servers have other work


def read_copies(mails: Iterable[bytes]) -> Copies:
    """Return the ids of mail that was delivered."""
    copies: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for each in mails:
        token, identity, recipient = TOKEN.search(each), ID.search(each), RECIPIENT.search(each)
        assert token is not None
        assert identity is not None
        assert recipient is not None
        copies[int(token[1]), recipient[1].decode()][identity[1].decode()] += 1
    return copies


def read_stored(payloads: Mapping[str, bytes]) -> Copies:
    """Return the ids of messages in the stream.  Each has all recipients."""
    copies: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for subject, each in payloads.items():
        token = TOKEN.search(decode_message(each).octets)
        assert token is not None
        for recipient in RECIPIENTS:
            copies[int(token[1]), recipient][subject] += 1
    return copies


def audit(site: Site, copies: Copies, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that nothing accepted is lost, and that a sender without 250 or a consumer that died explains each double.

    A double of one id needs a line in the log of a consumer that took the message again without a result of the
    recipient.  All of them are at most what consumers that were killed, or lost the servers, had in hand.
    """
    lost = [(each, to) for each in site.accepted for to in RECIPIENTS if not copies.get((each, to))]
    doubles = explain_doubles(copies, site.uncertain, read_redeliveries(site.logs))
    found = sum(sum(ids.values()) for ids in copies.values())
    without_servers = sum(log.count(text) for log in site.logs for text in NOT_SETTLED)
    with capsys.disabled():
        print(
            f"\n{len(site.accepted)} messages accepted, {site.uncertain.total()} attempts without 250, "
            f"{site.kills} consumers killed, {without_servers} messages that a consumer could not settle\n"
            f"{found} copies for {len(copies)} recipients, {len(lost)} lost\n"
            f"doubles: {doubles.without_reply} because the sender received no 250, {doubles.redelivered} because a "
            f"consumer died, {doubles.unexplained} unexplained"
        )
    assert (lost, doubles.unexplained) == ([], 0)
    assert doubles.redelivered <= CONCURRENCY * site.kills + without_servers


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
    audit(site, read_stored(await run(jetstream.messages)), capsys)


async def deliver_all(site: Site, jetstream: JetStream, seed: int | None = None) -> None:
    """Pass all messages, with two consumers, until the last one is delivered."""
    for number in range(2):
        site.start_consumer(number)
    try:
        await run_site(site, seed)
        await wait_until_delivered(jetstream)
    finally:
        site.stop_consumers()
    assert await trio.to_thread.run_sync(jetstream.messages, "FAILED") == {}


@pytest.mark.skipif(not JUDGE, reason="takes minutes: TRIOSMTP_JUDGE=1")
async def test_nothing_is_lost_on_the_way_to_a_maildir(
    tmp_path: Path, cluster: list[NATSProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the consumers is killed, too; a file has the same name then, so only senders double."""
    jetstream = await trio.to_thread.run_sync(make_streams, cluster, "workqueue")
    site = Site(tmp_path, cluster)
    site.target = f"maildir:{tmp_path}/Maildir"
    await deliver_all(site, jetstream)
    copies = read_copies(mails(tmp_path / "Maildir"))
    assert {count for ids in copies.values() for count in ids.values()} == {1}
    audit(site, copies, capsys)


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as dovecot:
        yield dovecot


@pytest.mark.skipif(not JUDGE, reason="takes minutes: TRIOSMTP_JUDGE=1")
async def test_nothing_is_lost_on_the_way_to_dovecot(
    tmp_path: Path, cluster: list[NATSProcess], dovecot: Dovecot, capsys: pytest.CaptureFixture[str]
) -> None:
    """It doubles what it receives twice.  Consumers are killed at random moments."""
    jetstream = await trio.to_thread.run_sync(make_streams, cluster, "workqueue")
    site = Site(tmp_path, cluster)
    site.target = f"lmtp:{dovecot.socket}"
    seed = random.randrange(1_000_000)
    with capsys.disabled():
        print(f"\nseed {seed}")
    await deliver_all(site, jetstream, seed)
    audit(site, read_copies(mail for each in RECIPIENTS for mail in dovecot.messages(each.partition("@")[0])), capsys)
