"""A wildcard and a Listen of one address beside it, with workers: who accepts chooses, and a reload loses nobody."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from wildcard_listens import free_port
from worker_service import workers

from triosmtp import parse_config
from triosmtp.auth import MockKey
from triosmtp.observer import EVENTS
from triosmtp.policy_service.question import Interest
from triosmtp.sockets.peer import peer_from_sockaddr
from triosmtp.testing import ScriptedClient
from triosmtp.workers.handoff import Handoff, send_connection
from triosmtp.workers.worker_messages import Commit, ConnectionClosed, LogRecord, PhaseEnded, Ping, Prepare, WorkerInit
from triosmtp.workers.worker_process import start_worker

ONE, TWO = "127.0.0.1", "127.0.0.2"


def listens(port: int, *hosts: str) -> str:
    return " ".join(f'Listen "{host}:{port}" {{ Static_Banner = "220 {host}" }}' for host in hosts)


def banner(port: int, host: str) -> str:
    with socket.create_connection((host, port), timeout=60) as sock, sock.makefile("rb") as file:
        line = file.readline().decode().strip()
        sock.sendall(b"QUIT\r\n")
        return line.removeprefix("220 ")


@contextmanager
def load(port: int, seen: Counter[str]) -> Iterator[None]:
    """Connect without a pause, until the block is left."""
    stopping = threading.Event()

    def connect() -> None:
        while not stopping.is_set():
            try:
                seen[banner(port, ONE)] += 1
            except OSError as error:
                seen[repr(error)] += 1

    threads = [threading.Thread(target=connect) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_a_listen_comes_and_goes_beside_a_wildcard_and_nobody_is_lost(tmp_path: Path) -> None:
    port, options = free_port(), "Workers = 2"
    with workers(tmp_path, options, listens(port, "*", TWO)) as service:
        assert [banner(port, host) for host in (ONE, TWO, "127.0.0.3")] == ["*", TWO, "*"]
        seen: Counter[str] = Counter()
        with load(port, seen):
            for hosts in [("*", ONE, TWO), ("*", TWO)] * 3:
                service.write(options, listens(port, *hosts))
                assert service.console("config reload")["status"] == 0
                assert banner(port, ONE) == hosts[-2]
                assert banner(port, TWO) == TWO
        assert set(seen) == {"*", ONE}
        assert sum(seen.values()) > 6


async def test_a_connection_whose_listen_went_while_it_waited_is_served_by_the_wildcard() -> None:
    port = free_port()
    before, after = (
        parse_config(f'Deliver_To = "discard:" ESMTP_Listener {{ {listens(port, *hosts)} }}')
        for hosts in (("*", ONE), ("*",))
    )
    ignored = dict.fromkeys((*EVENTS, ConnectionClosed, LogRecord, PhaseEnded), _ignore)
    worker = await start_worker(1, 1)
    server = socket.create_server((ONE, 0))
    with server, worker.queue, worker.worker_end:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.channel.run, ignored, {})
            interest = Interest(groups={}, outcomes=frozenset())
            init = WorkerInit(config=before, generation=1, interest=interest, files={}, mock_key=MockKey())
            assert await worker.channel.request(init) > 0
            await worker.channel.request(Prepare(after))
            worker.channel.send(Commit(2))
            await worker.channel.request(Ping())
            for listen in before.listens:
                client = ScriptedClient(await trio.open_tcp_stream(*server.getsockname()))
                accepted, address = server.accept()
                with accepted:
                    assert send_connection(
                        worker.queue, Handoff(1, 1, listen.key, peer_from_sockaddr(address)), accepted
                    )
                assert str(await client.read()) == "220 *"
                await client.aclose()
            worker.process.kill()
            await worker.process.wait()
            nursery.cancel_scope.cancel()


def _ignore(_: object) -> None:
    pass
