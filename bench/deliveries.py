"""`python -m bench.deliveries`: CPU for each message, rate and latency of each kind of delivery, from one run."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

from bench.client import connect, make_message
from bench.credential import make_credentials
from bench.load import measure
from bench.process import LOAD_CPU, free_port, run_server
from bench.scenario import SCENARIOS

__all__ = ["TARGETS", "main"]

_CONFIGURATION = """
Node_Name = "bench"
Relay_Domains = ( "example.com" )
Deliver_To = "{target}"
Spool_Directory = "{folder}"
ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}
"""
_MESSAGES = 400  # for the latency

Target = Callable[[Path], AbstractContextManager[str]]
"""Called with a folder: starts what the target needs, and yields the value of Deliver_To."""


@contextmanager
def _discard(_folder: Path) -> Iterator[str]:
    yield "discard:"


@contextmanager
def _maildir(folder: Path) -> Iterator[str]:
    yield f"maildir:{folder}/Maildir"


@contextmanager
def _lmtp(folder: Path) -> Iterator[str]:
    with _sink("hop_sink", "lmtp", f"{folder}/lmtp"):
        yield f"lmtp:{folder}/lmtp"


@contextmanager
def _smtp(_folder: Path) -> Iterator[str]:
    port = free_port()
    with _sink("hop_sink", "smtp", str(port)):
        yield f"smtp://127.0.0.1:{port}"


@contextmanager
def _http(_folder: Path) -> Iterator[str]:
    port = free_port()
    with _sink("http_sink", str(port)):
        yield f"http://127.0.0.1:{port}/mail"


@contextmanager
def _nats(folder: Path) -> Iterator[str]:
    from bench.stream_server import run_stream_server  # noqa: PLC0415 - it needs packages that the others do not

    with run_stream_server(folder) as target:
        yield target


@contextmanager
def _sink(module: str, *arguments: str) -> Iterator[None]:
    command = ["taskset", "-c", str(LOAD_CPU), sys.executable, "-m", f"bench.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


TARGETS: dict[str, Target] = {
    "discard": _discard, "maildir": _maildir, "lmtp": _lmtp, "smtp": _smtp, "http": _http, "nats": _nats,
}  # fmt: skip
"""The deliveries that are measured."""


def _measure(target: Target, seconds: float) -> tuple[float, float, float]:
    """Return milliseconds of CPU for each message, messages per second, and milliseconds of one client's message."""
    with tempfile.TemporaryDirectory(prefix="triosmtp-bench-") as name:
        folder = Path(name)
        port = free_port()
        with target(folder) as deliver_to, (folder / "output").open("wb") as log:
            configuration = folder / "bench.conf"
            configuration.write_text(_CONFIGURATION.format(target=deliver_to, folder=folder, port=port))
            command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(configuration)]
            with run_server(command, port, log) as server:
                latency = _latency(server.port)
                sample = measure(SCENARIOS["B"], server, make_credentials(folder), seconds)
    return sample.figure, sample.messages / sample.seconds, latency


def _latency(port: int) -> float:
    client, payload = connect(port, None), make_message(SCENARIOS["B"].message_size) + b".\r\n"
    times = []
    for _ in range(_MESSAGES):
        began = time.perf_counter()
        client.deliver(payload)
        times.append(time.perf_counter() - began)
    client.quit()
    return median(times) * 1000


def main() -> None:
    """Parse arguments, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliveries", description=__doc__)
    parser.add_argument("--targets", default=",".join(TARGETS), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load a run (default 4)")
    parser.add_argument("--runs", type=int, default=3, help="of each target (default 3)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CPU})
    names = options.targets.split(",")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(options.runs):
        for name in names:  # interleaved: what disturbs the machine disturbs all
            found[name].append(_measure(TARGETS[name], options.seconds))
    print(f"{'target':<12}{'CPU ms':>10}{'messages/s':>12}{'latency ms':>12}{'added ms':>10}")
    base = median(sample[2] for sample in found[names[0]])
    for name, samples in found.items():
        cpu, rate, latency = (median(column) for column in zip(*samples, strict=True))
        print(f"{name:<12}{cpu:>10.3f}{rate:>12.0f}{latency:>12.2f}{latency - base:>10.2f}")


if __name__ == "__main__":
    main()
