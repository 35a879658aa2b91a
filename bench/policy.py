"""`python -m bench.policy`: what a decision over the websocket costs a session, beside the same without policy.

200 sessions a second arrive, each says EHLO, MAIL, QUIT; the time from MAIL to its reply is measured.  What the decider
adds is one round trip: through the hub, a websocket on loopback, and the client library.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from bench.process import LOAD_CPU, SERVER_CPU

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
{policy}
Policy_Listener {{ Listen "{folder}/policy" {{ }} Listen "127.0.0.1:0" {{ Token_File = "{folder}/token" }} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""
TOKEN = "a-token-for-the-benchmark"
DECIDER = """
import sys, trio
from triosmtp.policy_client import PolicyClient
client = PolicyClient(sys.argv[1], token=sys.argv[2], name="bench", group="bench", variables=["tls*"])
@client.on("mailfrom")
async def check(request): pass
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)
trio.run(main)
"""


@contextmanager
def serving(folder: Path, *, policy: bool) -> Iterator[int]:
    """Run a server, and a decider beside the load; return the server's port."""
    conf = folder / "bench.conf"
    text = 'Policy = "websocket:bench"' if policy else ""
    conf.write_text(CONFIGURATION.format(policy=text, folder=folder))
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(conf), "--control", str(folder / "control")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        os.sched_setaffinity(server.pid, {SERVER_CPU})
        assert server.stdout is not None
        ports: list[int] = []
        while len(ports) < 2:
            match = re.search(r" port (\d+)$", server.stdout.readline())
            ports += [int(match[1])] if match else []
        try:
            if not policy:
                yield ports[0]
                return
            decider = [sys.executable, "-c", DECIDER, f"ws://127.0.0.1:{ports[1]}/", TOKEN]
            with subprocess.Popen(decider, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == "ready\n"
                try:
                    yield ports[0]
                finally:
                    client.kill()
        finally:
            server.terminate()


async def load(port: int, seconds: float, rate: float) -> list[float]:
    """Open ``rate`` sessions a second for ``seconds``; return the milliseconds from each MAIL to its reply."""
    found: list[float] = []

    async def session() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"EHLO bench\r\n")
            await stream.receive_some()
            begun = trio.current_time()
            await stream.send_all(b"MAIL FROM:<a@example.org>\r\n")
            reply = await stream.receive_some()
            found.append((trio.current_time() - begun) * 1000)
            assert reply.startswith(b"250"), reply
            await stream.send_all(b"QUIT\r\n")
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        begin = trio.current_time()
        for number in range(int(seconds * rate)):
            await trio.sleep_until(begin + number / rate)
            nursery.start_soon(session)
    return found


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load a run (default 5)")
    parser.add_argument("--runs", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--rate", type=float, default=200.0, help="sessions a second (default 200)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CPU})
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(options.runs):
        for policy in (False, True):
            with tempfile.TemporaryDirectory() as folder, serving(Path(folder), policy=policy) as port:
                found[policy].append(percentiles(trio.run(load, port, options.seconds, options.rate)))
    for policy, name in ((False, "without policy"), (True, "with a decider")):
        p50, p99 = (statistics.median(column) for column in zip(*found[policy], strict=True))
        print(f"MAIL {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms (medians of {options.runs} runs)")


if __name__ == "__main__":
    main()
