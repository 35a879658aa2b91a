"""`python -m bench.memory`: what idle connections cost in memory, and large messages while they arrive.

Each figure is of a process of its own: what one load left behind as free memory would hide what the next one takes.
RSS is what is resident; PSS leaves out what is shared with other processes.  Idle sessions have said EHLO and were left
alone; they come twice, because what a server keeps after the first time it must use again the second time.  Of messages
in flight the highest RSS counts, above what was there before.
"""

import argparse
import os
import ssl
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen

from bench.client import connect, make_context, make_message
from bench.process import LOAD_CPU, Server, raise_descriptor_limit
from bench.rival import RIVALS, open_rival
from bench.scenario import SCENARIOS

__all__ = ["main"]

_SCENARIO = SCENARIOS["De"]
_LARGE = 50_000_000
_SETTLE_SECONDS = 20


@frozen(slots=True)
class _Reading:
    rss: int
    pss: int

    @classmethod
    def of(cls, server: Server) -> "_Reading":
        return cls(server.memory(), server.memory("Pss"))


def _show(what: str, now: _Reading, before: _Reading | None = None, sessions: int = 0) -> None:
    line = f"  {what:<40}{now.rss / 2**20:>9.1f}{now.pss / 2**20:>9.1f}"
    if before is not None:
        line += f"{(now.rss - before.rss) / 2**20:>+9.1f}"
    if before is not None and sessions:
        line += f"{(now.rss - before.rss) / sessions / 1024:>14.1f}"
    print(line, flush=True)


def _wait_until_gone(server: Server, descriptors: int) -> None:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while _descriptors(server) > descriptors:
        if time.monotonic() > deadline:
            raise RuntimeError("connections that were closed are still open on the server")
        time.sleep(0.05)


def _descriptors(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


def _idle(server: Server, what: str, context: ssl.SSLContext | None, sessions: int) -> None:
    """Show the memory with so many idle sessions, and after they have gone, twice."""
    connect(server.port, context).quit()  # makes what is made once
    descriptors = _descriptors(server)
    before = _Reading.of(server)
    _show("one session was there", before)
    for time_ in ("", ", again"):
        with ExitStack() as stack:
            for _ in range(sessions):
                stack.callback(connect(server.port, context).close)
            _show(f"{sessions} idle sessions, {what}{time_}", _Reading.of(server), before, sessions)
        _wait_until_gone(server, descriptors)
        _show("after they have gone", _Reading.of(server), before)


def _in_flight(server: Server, what: str, context: ssl.SSLContext | None, messages: int) -> None:
    """Show the highest memory while so many large messages arrive side by side."""
    payload = make_message(_LARGE) + b".\r\n"
    connect(server.port, context).quit()
    before = _Reading.of(server)
    server.forget_peak()
    clients = [connect(server.port, context) for _ in range(messages)]
    threads = [threading.Thread(target=client.deliver, args=(payload,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = server.memory("VmHWM")
    for client in clients:
        client.quit()
    _show(f"{messages} × 50 MB in flight, {what}", _Reading(peak, _Reading.of(server).pss), before)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--rivals", default="aiosmtpd,triosmtp", metavar="NAME,…")
    parser.add_argument("--sessions", type=int, default=1000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CPU})
    raise_descriptor_limit()
    for name in options.rivals.split(","):
        print(f"{RIVALS[name].title:<42}{'RSS MiB':>9}{'PSS MiB':>9}{'RSS +':>9}{'KiB/session':>14}")
        for what, secure in (("plaintext", False), ("TLS 1.3", True)):
            for measure, number in ((_idle, options.sessions), (_in_flight, 1), (_in_flight, 8)):
                with open_rival(RIVALS[name], _SCENARIO) as (server, credentials):
                    measure(server, what, make_context(_SCENARIO, credentials) if secure else None, number)


if __name__ == "__main__":
    main()
