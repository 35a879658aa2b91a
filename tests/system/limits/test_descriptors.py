"""No descriptor is left: nobody is accepted, no message is lost, and all goes on when there are some again."""

import gc
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from fortress import besieged

from triosmtp.delivery import Maildir
from triosmtp.sockets.listener import accept_connections
from triosmtp.sockets.peer import Peer

MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n"
LARGE = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 20_000 + b".\r\n"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up all descriptors of this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # not in the middle of the test, because it closes some
    with socket.socket() as probe, ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 20, before[1]))
        try:
            while True:
                try:
                    stack.enter_context(socket.socket())
                except OSError:
                    break
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("body", [MESSAGE, LARGE])
async def test_a_message_is_452_and_taken_later(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    maildir = tmp_path / "Maildir"
    errors = "(?i)not (stored|taken|accepted), .*Too many open files"
    async with besieged(tmp_path, caplog, deliver=Maildir(maildir), errors=errors) as fortress:
        client = await fortress.connect()
        for starved in (True, False):
            with ExitStack() as stack:
                if starved:
                    stack.enter_context(no_descriptors())
                await client.send(b"MAIL FROM:<>\r\nRCPT TO:<you@example.com>\r\nDATA\r\n")
                assert [(await client.read()).code for _ in range(3)] == [250, 250, 354]
                await client.send(body)
                assert str(await client.read())[:9] == ("452 4.3.1" if starved else "250 2.0.0")
        await client.aclose()
        mine = [path for path in (maildir / "new").iterdir() if b"Subject: x" in path.read_bytes()]
        assert len(mine) == 1
        assert list((maildir / "tmp").iterdir()) == []


async def test_connections_wait_until_there_are_descriptors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path, caplog, errors="cannot accept a connection: Too many open files") as fortress:
        with socket.socket() as waiting:
            waiting.setblocking(False)
            with no_descriptors():
                waiting.connect_ex(fortress.server.addresses["127.0.0.1:0"])
                while not caplog.messages:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert fortress.sessions == []
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(waiting))
            assert (await stream.receive_some()).startswith(b"220")


async def test_the_lack_of_descriptors_is_logged_at_intervals(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = trio.Event()

    def take(sock: socket.socket, _peer: Peer) -> None:
        sock.close()
        accepted.set()

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(False)
        async with trio.open_nursery() as nursery:
            with no_descriptors():
                nursery.start_soon(accept_connections, listening, take)
                await trio.sleep(25)
            await accepted.wait()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    told = "cannot accept a connection: Too many open files; trying again every 0.1 s"
    assert caplog.messages == [told, told, told, "connections are accepted again"]


class Turns(trio.abc.Instrument):
    """Counts the turns of tasks, and of the loop."""

    def __init__(self) -> None:
        self.tasks = self.loops = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.tasks += 1

    def before_io_wait(self, timeout: float) -> None:
        self.loops += 1


class CountingSocket(socket.socket):
    """Counts the calls of accept(2)."""

    accepts = 0

    def _accept(self) -> tuple[int, object]:
        self.accepts += 1
        result: tuple[int, object] = super()._accept()  # type: ignore[misc]  # not public
        return result


async def test_the_loop_does_not_spin_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    with CountingSocket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(10)
        listening.setblocking(False)
        for _ in range(5):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        taken: list[socket.socket] = []
        turns = Turns()
        async with trio.open_nursery() as nursery:
            with no_descriptors():
                nursery.start_soon(accept_connections, listening, lambda sock, _peer: taken.append(sock))
                trio.lowlevel.add_instrument(turns)
                await trio.sleep(100)
                trio.lowlevel.remove_instrument(turns)
            assert taken == []
            assert 900 < listening.accepts <= 1001  # one each 0.1 s
            assert turns.tasks < 5000
            assert turns.loops < 5000
            await trio.sleep(1)
            assert len(taken) == 5
            nursery.cancel_scope.cancel()
        for sock in taken:
            sock.close()
