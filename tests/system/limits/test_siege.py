"""Many clients that do little, and a few that do too much, against a server in its own process.

The server continues in bounded memory, and ends each session with the right code in time.
"""

import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import frozen
from fortress import JUDGE

from triosmtp.testing import ScriptedClient

LORISES = 2000 if JUDGE else 60
TIME = 40 if JUDGE else 4
CONF = """
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
Relay_Domains = ( "example.com" )
Idle_Time = {time}
Max_Session_Time = {session}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "CHUNKING" ) }} }}
"""


@frozen
class Server:
    """A `triosmtp serve` that runs."""

    pid: int
    port: int
    folder: Path

    def memory(self) -> int:
        """Return octets that were resident at most."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError

    def delivered(self) -> int:
        return len(list((self.folder / "Maildir" / "new").iterdir()))


@contextmanager
def serving(folder: Path, session: int) -> Iterator[Server]:
    path = folder / "my.conf"
    path.write_text(CONF.format(folder=folder, time=TIME, session=session))
    command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(path), "--control", str(folder / "control")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        line = ""
        while not line.startswith("Listen"):
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
        try:
            yield Server(process.pid, int(line.rpartition(" ")[2]), folder)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert "Traceback" not in (folder / "log").read_text()


async def connect(server: Server, arriving: trio.CapacityLimiter | None = None) -> ScriptedClient:
    """Connect and read the banner; ``arriving`` bounds how many do so at once.

    A queue that overflows drops the last packet of a connection's beginning.  A client that has nothing to say then
    waits for ever for a server that does not know of it.
    """
    async with arriving or trio.CapacityLimiter(1):
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert (await client.read()).code == 220
    return client


async def drip(client: ScriptedClient, seen: Counter[bytes]) -> None:
    """Send an octet a second until the server says something; count the beginning of what it says last."""
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            while True:
                try:
                    await client.send(b"x")
                except trio.BrokenResourceError:
                    return
                await trio.sleep(1)  # the attack itself: nothing is waited for

        nursery.start_soon(send)
        said = await client.read_eof()
        seen[said[:9]] += 1
        nursery.cancel_scope.cancel()
    await client.aclose()


async def loris(server: Server, seen: Counter[bytes], arriving: trio.CapacityLimiter, *, in_data: bool) -> None:
    client = await connect(server, arriving)
    if in_data:
        await client.command("EHLO x")
        await client.command("MAIL FROM:<a@example.org>")
        await client.command("RCPT TO:<b@example.com>")
        assert (await client.command("DATA")).code == 354
    await drip(client, seen)


async def flood(server: Server, command: bytes, count: int) -> Counter[int]:
    """Send a command ``count`` times, or until the end; return the codes of the replies."""
    client = await connect(server)
    await client.command("EHLO x")
    await client.command("MAIL FROM:<a@example.org>")
    codes: Counter[int] = Counter()
    try:
        for _ in range(count // 100):
            await client.send(command * 100)
            for _ in range(100):
                codes[(await client.read()).code] += 1
    except (EOFError, trio.BrokenResourceError):
        pass
    await client.aclose()
    return codes


async def honest(server: Server, stop: trio.Event, count: list[float]) -> None:
    """Deliver message after message, and note how long each took."""
    while not stop.is_set():
        began = trio.current_time()
        client = await connect(server)
        await client.command("EHLO honest.example")
        answer = await client.message("me@example.org", ["you@example.com"], b"Subject: honest\r\n\r\nx\r\n")
        assert answer.code == 250
        assert (await client.command("QUIT")).code == 221
        await client.aclose()
        count.append(trio.current_time() - began)


async def test_lorises_by_the_hundred(tmp_path: Path) -> None:
    wanted = 2 * LORISES + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    seen: Counter[bytes] = Counter()
    served: list[float] = []
    with serving(tmp_path, 86_400 if JUDGE else TIME) as server:
        before, stop = server.memory(), trio.Event()
        with trio.fail_after(TIME * 6):
            async with trio.open_nursery() as outer:
                outer.start_soon(honest, server, stop, served)
                began = trio.current_time()
                arriving = trio.CapacityLimiter(200)
                async with trio.open_nursery() as nursery:
                    for number in range(LORISES):
                        nursery.start_soon(partial(loris, server, seen, arriving, in_data=number % 2 == 1))
                took = trio.current_time() - began
                stop.set()
        grown = server.memory() - before
    print(f"{LORISES} ended in {took:.1f} s; {grown >> 20} MiB")
    print(f"{len(served)} honest messages, the slowest {max(served):.2f} s")
    assert seen == {b"421 4.4.2": LORISES}
    assert len(served) > 5
    assert grown < 16 * 1024 * 1024 + LORISES * 50_000
    assert server.delivered() == len(served)


async def test_clients_over_a_limit_are_refused(tmp_path: Path) -> None:
    served: list[float] = []
    found: dict[str, Counter[int]] = {}
    with serving(tmp_path, 86_400) as server:
        before, stop = server.memory(), trio.Event()
        with trio.fail_after(120):
            async with trio.open_nursery() as outer:
                outer.start_soon(honest, server, stop, served)
                async with trio.open_nursery() as nursery:

                    async def run(name: str, command: bytes, count: int) -> None:
                        found[name] = await flood(server, command, count)

                    nursery.start_soon(run, "noop", b"NOOP\r\n", 1_000_000)
                    nursery.start_soon(run, "recipients", b"RCPT TO:<b@example.com>\r\n", 100_000)
                    nursery.start_soon(run, "relay", b"RCPT TO:<b@elsewhere.example>\r\n", 100_000)
                    nursery.start_soon(run, "nonsense", b"NONSENSE\r\n", 1_000_000)
                    nursery.start_soon(run, "long", b"x" * 100_000, 100)  # 10 MB without an end
                    nursery.start_soon(run, "chunk", b"BDAT 999999999999\r\n", 100)
                    client = await connect(server)
                    await client.command("EHLO x")
                    answer = await client.command("MAIL FROM:<a@example.org> SIZE=2147483648")
                    assert str(answer) == "552 5.3.4 Message size exceeds the fixed limit"
                    await client.aclose()
                stop.set()
        grown = server.memory() - before
    print(f"{found}; {len(served)} honest messages, the slowest {max(served):.2f} s; {grown >> 20} MiB")
    assert set(found["noop"]) == {250, 421}
    assert sum(found["noop"].values()) <= 101
    assert found["recipients"] == {250: 1000, 452: 10_000, 421: 1}
    assert found["relay"] == {550: 100, 421: 1}
    assert found["nonsense"] == {500: 20, 421: 1}
    assert found["long"] == {421: 1}  # it is not idle for too long: it never ends its command
    assert found["chunk"] == {503: 1}
    assert grown < 24 * 1024 * 1024
    assert os.getpid() != server.pid
