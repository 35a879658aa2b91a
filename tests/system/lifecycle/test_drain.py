"""Drain under load: no client sees a reset; all see 421 or finish; and what was answered 250 is there."""

import os
import re
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
import trio
from life_server import Place, public_place
from serve_process import LineClient

from triosmtp import parse_config
from triosmtp.sockets.bound_socket import plan_sockets
from triosmtp.sockets.listen_backlog import drain_backlog, stop_syn

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
CLIENTS = 300 if JUDGE else 60
LISTENS = 'Listen "127.0.0.1:0" { } Listen "127.0.0.2:0" { Use_SSL = true SMTP_Extensions = ( ) }'


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        yield place


class Told(Exception):
    """The server has said 421."""


class Client:
    """A client that notes how its dialogue ended; anything but `finished`, `421` and `refused` is a loss."""

    def __init__(self, kind: str, port: int, outcomes: Counter[str], under_way: trio.Event) -> None:
        self.kind, self.port, self.outcomes, self.under_way = kind, port, outcomes, under_way
        self.host = "127.0.0.2" if kind == "smtps" else "127.0.0.1"
        self.accepted = 0
        self._received = bytearray()
        self._stream: trio.abc.Stream

    async def run(self) -> None:
        """Connect again and again, until stopped."""
        while True:
            sock = trio.socket.socket()
            try:
                await sock.connect((self.host, self.port))
            except ConnectionRefusedError:
                sock.close()
                self.outcomes["refused"] += 1
                return
            self._stream = trio.SocketStream(sock)
            try:
                await self._converse()
                self.outcomes["finished"] += 1
                if self.outcomes["finished"] > CLIENTS // 6:
                    self.under_way.set()
            except Told:
                self.outcomes["421"] += 1
                return
            except (trio.BrokenResourceError, ssl.SSLError, EOFError) as error:
                self.outcomes[f"{self.kind} lost: {error!r} {error.__cause__!r}"] += 1
                return
            finally:
                self._received.clear()
                await trio.aclose_forcefully(self._stream)

    async def _converse(self) -> None:
        if self.kind == "smtps":
            self._encrypt()
        await self._reply(220)
        await self._ask("EHLO client.example")
        if self.kind == "starttls":
            await self._say("STARTTLS")
            await self._reply(220)
            self._encrypt()
            await self._ask("EHLO client.example")
        if self.kind == "idle":
            await self._reply(0)  # 421 is all that can come
        for _ in range(5):
            if self.kind == "pipelining":
                await self._say("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA")
                for code in (250, 250, 354):
                    await self._reply(code)
            else:
                await self._ask("MAIL FROM:<a@example.org>")
                await self._ask("RCPT TO:<b@example.com>")
                await self._ask("DATA")
            size = 200_000 if self.kind == "large" else 200
            await self._say("Subject: x\r\n\r\n" + "x" * 70 * 1 + ("\r\n" + "y" * 70) * (size // 72) + "\r\n.")
            await self._reply(250)
            self.accepted += 1
        await self._ask("QUIT")

    def _encrypt(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._stream = trio.SSLStream(self._stream, context, server_hostname="localhost", https_compatible=True)

    async def _say(self, text: str) -> None:
        try:
            await self._stream.send_all(text.encode() + b"\r\n")
        except trio.BrokenResourceError:
            await self._reply(0)  # a client reads the pending reply before it gives up
            raise

    async def _ask(self, text: str) -> None:
        await self._say(text)
        await self._reply(0)

    async def _reply(self, code: int) -> None:
        while not (match := re.match(rb"(?:\d{3}-[^\n]*\n)*(\d{3}) [^\n]*\n", self._received)):
            data = await self._stream.receive_some(65536)
            if not data:
                raise EOFError(bytes(self._received))
            self._received += data
        got = int(match[1])
        del self._received[: match.end()]
        if got == 421:
            raise Told
        assert code in {0, got}, (self.kind, code, got)


@pytest.mark.parametrize("workers", [1, 2])
async def test_drain_under_load(place: Place, workers: int) -> None:
    # One address may have a tenth of the default of TLS_Handshakes_Max, and a busy machine exceeds that.
    place.write(LISTENS, f"Drain_Timeout = 20 Workers = {workers} TLS_Handshakes_Max = 0")
    outcomes: Counter[str] = Counter()
    under_way = trio.Event()
    kinds = ("plain", "pipelining", "large", "starttls", "smtps", "idle")
    with place.serving() as process:
        plain, smtps = (int(line.rpartition(" ")[2]) for line in process.wait_until_ready()[:2])
        clients = [
            Client(kind, smtps if kind == "smtps" else plain, outcomes, under_way)
            for kind in (kinds[number % len(kinds)] for number in range(CLIENTS))
        ]
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(client.run)
                await under_way.wait()
                process.signal(signal.SIGTERM)
            status = await trio.to_thread.run_sync(partial(process.process.wait, 60))
    assert set(outcomes) <= {"finished", "421", "refused"}, outcomes
    assert outcomes["421"] >= CLIENTS // 6, "the idle ones at least"
    assert status == 0
    assert "Traceback" not in place.log
    arrived = len(list((place.own / "Maildir/new").iterdir()))
    assert arrived >= sum(client.accepted for client in clients)


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_in_the_backlog_get_421(place: Place, workers: int) -> None:
    """The loop is stuck while they come, so that the kernel alone knows of them when the end begins."""
    place.write(LISTENS, f"Drain_Timeout = 20 Workers = {workers}")
    with place.serving() as process:
        port = process.port()
        process.signal(signal.SIGSTOP)
        with ExitStack() as stack:
            waiting = [stack.enter_context(LineClient(port)) for _ in range(400)]
            for client in waiting[:50]:
                client.say("EHLO client.example", "NOOP", "NOOP")  # rude, and told all the same
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
            for client in waiting:
                replies = [client.read()]
                while replies[-1] and not replies[-1].startswith("421 "):
                    replies.append(client.read())
                assert replies[-1].startswith("421 "), replies
        assert process.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 30)


async def test_the_backlog_is_served_and_later_connections_are_refused() -> None:
    """All connected clients are served; later ones wait in the kernel, and are then refused."""
    config = parse_config('ESMTP_Listener { Listen "127.0.0.1:0" { } }')
    [binding] = plan_sockets(config).opened
    address = binding.sock.getsockname()
    taken: list[socket.socket] = []
    with socket.create_connection(address, 30) as early, socket.socket() as late:
        stop_syn(binding)
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.connect(address)
        await drain_backlog([binding], lambda _binding, sock, _peer: taken.append(sock))
        early.sendall(b"x")
        [server_side] = taken
        with server_side:
            await trio.lowlevel.wait_readable(server_side)
            assert server_side.recv(9) == b"x"
        binding.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 30)


def test_a_transaction_in_progress_is_finished_or_times_out_with_421(place: Place) -> None:
    place.write(LISTENS, "Drain_Timeout = 1.5")
    with place.serving() as process:
        port = process.port()
        with LineClient(port) as quick, LineClient(port) as slow, LineClient(port) as idle:
            for client in (quick, slow, idle):
                client.read()
                client.ask("HELO client.example")
            quick.ask("MAIL FROM:<a@example.org>")
            slow.ask("MAIL FROM:<a@example.org>")
            process.signal(signal.SIGTERM)
            assert idle.read() == "421 Service shutting down"
            assert idle.read() == ""
            quick.ask("RCPT TO:<b@example.com>")
            quick.ask("DATA")
            assert quick.ask("x\r\n.").startswith("250 ")
            assert quick.read().startswith("421 ")
            assert slow.read().startswith("421 "), "after Drain_Timeout"
        assert process.process.wait(30) == 0


def test_a_second_signal_ends_at_once(place: Place) -> None:
    place.write(LISTENS, "Drain_Timeout = 3600")
    with place.serving() as process, LineClient(port := process.port()) as client, LineClient(port) as idle:
        client.read()
        client.ask("HELO client.example")
        client.ask("MAIL FROM:<a@example.org>")
        process.signal(signal.SIGTERM)
        idle.read()
        assert idle.read().startswith("421 "), "it drains"
        process.signal(signal.SIGTERM)
        assert process.process.wait(30) == 0


async def test_a_body_that_is_refused_midway_does_not_take_the_reply_with_it(place: Place) -> None:
    """421 for too many errors, with much unread behind it: the reset that close() would send takes the reply away."""
    place.write(LISTENS, "Max_Command_Errors = 3")
    with place.serving() as process:
        port = process.port()
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"NONSENSE\r\n" * 20_000)
            received = b""
            while data := await stream.receive_some(65536):
                received += data
            assert re.search(rb"\n421 [^\n]*\n$", received), received[-200:]
            await stream.aclose()
        process.stop()
