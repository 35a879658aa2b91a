"""`python -m bench.growth`: how the cost grows with connections, Listens, Peers, Server_Names and recipients.

One quantity grows, everything else stays.  CPU is that of the server's process tree for each unit: a message on one of
so many persistent connections, a connection with one message, or one recipient.  Memory is what each session adds to
the resident memory.  Nothing is to grow faster than the work: a row's last figure divided by its first one is near 1.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from attrs import asdict, frozen

from bench.client import Client, Credentials, connect, make_context, make_message
from bench.credential import make_credentials
from bench.process import LOAD_CPU, Server, free_port, raise_descriptor_limit, run_server
from bench.scenario import SCENARIOS

__all__ = ["Point", "draw", "main"]

_BODY: Final = make_message(2048) + b".\r\n"
_CONFIGURATION: Final = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}"
Idle_Time = 3600
Max_Receptions_Per_Connection = 0
Max_Recipients_Per_Connection = 0
Max_Recipients_Per_Message = 0
TLS_Certificate = "{certificate}"
TLS_Key = "{key}"
ESMTP_Listener {{
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  {listener}
  Listen "127.0.0.1:{port}" {{
    {listen}
  }}
}}
"""


@frozen(slots=True)
class Point:
    """One measurement: what grows, how many of it there were, and the cost of one unit."""

    series: str
    number: int
    milliseconds: float
    kibibytes: float | None = None
    """Resident memory of each session, if sessions are what grows."""


@frozen(slots=True)
class _Series:
    """A quantity that grows, its values, and how one of them is measured."""

    name: str
    title: str
    numbers: tuple[int, ...]
    measure: Callable[["_Series", int, int], Point]
    secure: bool = False


@contextmanager
def _serving(listener: str = "", listen: str = "") -> Iterator[tuple[Server, Credentials]]:
    with tempfile.TemporaryDirectory(prefix="triosmtp-bench-") as name:
        folder, port = Path(name), free_port()
        credentials = make_credentials(folder)
        conf = folder / "bench.conf"
        certificate, key = credentials.server_certificate, credentials.server_key
        pair = {"certificate": certificate, "key": key}
        conf.write_text(
            _CONFIGURATION.format(listener=listener, listen=listen.format(**pair), folder=folder, port=port, **pair)
        )
        command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(conf), "--control", str(folder / "control")]
        output = folder / "output"
        try:
            with output.open("wb") as log, run_server(command, port, log) as server:
                yield server, credentials
        except (RuntimeError, OSError) as error:
            raise SystemExit(f"{error}\n{output.read_text(errors='replace')[-4000:]}") from error


def _settled(server: Server) -> float:
    last = server.cpu_seconds()
    while True:
        time.sleep(0.1)
        now = server.cpu_seconds()
        if now == last:
            return now
        last = now


def _connections(series: _Series, number: int, units: int) -> Point:
    """Send messages round all connections: each waits while the others have their turns."""
    with _serving() as (server, credentials), ExitStack() as stack:
        context = make_context(SCENARIOS["De"], credentials) if series.secure else None
        connect(server.port, context).quit()  # makes what is made once
        before = server.memory()
        clients: list[Client] = []
        for _ in range(number):
            clients.append(connect(server.port, context))
            stack.callback(clients[-1].close)
        after = server.memory()
        for client in clients[:100]:
            client.deliver(_BODY)
        began = _settled(server)
        for unit in range(units):
            clients[unit * 7919 % number].deliver(_BODY)  # a prime: each in its turn, and not in the order of arrival
        cpu = _settled(server) - began
        return Point(series.name, number, cpu * 1000 / units, (after - before) / 1024 / number)


def _one_by_one(server: Server, units: int, secure: bool, credentials: Credentials, port: int) -> float:
    context = make_context(SCENARIOS["De"], credentials) if secure else None

    def once() -> None:
        client = connect(port, context)
        client.deliver(_BODY)
        client.quit()

    for _ in range(20):
        once()
    began = _settled(server)
    for _ in range(units):
        once()
    return (_settled(server) - began) * 1000 / units


def _listens(series: _Series, number: int, units: int) -> Point:
    port = free_port()
    listens = "".join(f'Listen "127.0.{1 + i // 250}.{1 + i % 250}:{port}" {{ }}\n' for i in range(number - 1))
    with _serving(listener=listens) as (server, credentials):
        return Point(series.name, number, _one_by_one(server, units, series.secure, credentials, server.port))


def _peers(series: _Series, number: int, units: int) -> Point:
    peers = "".join(f'Peer "10.{i // 250}.{i % 250}.0/24" {{ Idle_Time = 60 }}\n' for i in range(number - 1))
    with _serving(listener=f'{peers}Peer "127.0.0.0/8" {{ Idle_Time = 61 }}') as (server, credentials):
        return Point(series.name, number, _one_by_one(server, units, series.secure, credentials, server.port))


def _server_names(series: _Series, number: int, units: int) -> Point:
    names = "".join(
        f'Server_Name "host{i}.example" {{{{ TLS_Certificate = "{{certificate}}" TLS_Key = "{{key}}" }}}}\n'
        for i in range(number)
    )
    with _serving(listen=names) as (server, credentials):
        return Point(series.name, number, _one_by_one(server, units, series.secure, credentials, server.port))


def _recipients(series: _Series, number: int, units: int) -> Point:
    messages = max(50, units * 5 // number)
    lines = b"".join(b"RCPT TO:<sink%d@example.com>\r\n" % i for i in range(number))
    with _serving() as (server, _credentials):
        client = connect(server.port, None)
        client.deliver_to(lines, number, _BODY)
        began = _settled(server)
        for _ in range(messages):
            client.deliver_to(lines, number, _BODY)
        cpu = _settled(server) - began
        client.quit()
    return Point(series.name, number, cpu * 1000 / (messages * number))


_SERIES: Final = (
    _Series("connections", "a message, connections in plaintext", (10, 100, 1000, 10_000), _connections),
    _Series("TLS connections", "a message, connections in TLS", (10, 100, 1000, 10_000), _connections, secure=True),
    _Series("Listens", "a connection with a message", (1, 10, 1000), _listens),
    _Series("Peers", "a connection with a message", (1, 10, 1000), _peers),
    _Series("Server_Names", "a TLS connection with a message", (1, 10, 1000), _server_names, secure=True),
    _Series("recipients", "one recipient (pipelined)", (1, 10, 100, 1000), _recipients),
)


def _table(points: Sequence[Point]) -> str:
    lines = [f"{'what grows':<18}{'number':>8}{'ms CPU':>10}{'to the first':>14}{'KiB/session':>13}"]
    for series in _SERIES:
        mine = [point for point in points if point.series == series.name]
        for point in mine:
            ratio = point.milliseconds / mine[0].milliseconds if mine[0].milliseconds else float("nan")
            memory = "" if point.kibibytes is None else f"{point.kibibytes:.1f}"
            lines.append(f"{point.series:<18}{point.number:>8}{point.milliseconds:>10.3f}{ratio:>14.2f}{memory:>13}")
        if mine:
            lines.append(f"  {series.title}")
    return "\n".join(lines)


def draw(points: Sequence[Point], file: Path) -> None:
    """Draw CPU for each unit over the number of what grows, both axes logarithmic, as SVG."""
    import matplotlib  # noqa: PLC0415 - takes a second, and only the plot needs it

    matplotlib.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415 - as above

    matplotlib.rcParams["svg.hashsalt"] = "triosmtp"  # the same figures make the same file
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for series in _SERIES:
        mine = [point for point in points if point.series == series.name]
        if mine:
            axes.plot([p.number for p in mine], [p.milliseconds for p in mine], marker="o", label=series.name)
    axes.set(xscale="log", yscale="log", xlabel="number", ylabel="ms of server CPU for each unit")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Measure, print, and write and draw if asked to."""
    names = [series.name for series in _SERIES]
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--series", default=",".join(names), metavar="NAME,…", help=f"of {', '.join(names)}")
    parser.add_argument("--units", type=int, default=1000, help="messages or connections for each figure")
    parser.add_argument("--runs", type=int, default=3, help="of each figure; the median counts (default 3)")
    parser.add_argument("--most", type=int, default=10_000, help="leave out larger numbers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures there, as SVG")
    options = parser.parse_args()
    wanted = options.series.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"{', '.join(unknown)} not among {', '.join(names)}")
    os.sched_setaffinity(0, {LOAD_CPU})
    raise_descriptor_limit()
    points: list[Point] = []
    for series in _SERIES:
        for number in (n for n in series.numbers if series.name in wanted and n <= options.most):
            runs = [series.measure(series, number, options.units) for _ in range(options.runs)]
            middle = statistics.median_low(run.milliseconds for run in runs)
            points.append(next(run for run in runs if run.milliseconds == middle))
            print(f"{series.name} {number}: {middle:.3f} ms", file=sys.stderr, flush=True)
    print(_table(points))
    if options.json:
        options.json.write_text(json.dumps([asdict(point) for point in points], indent=2) + "\n")
    if options.plot:
        draw(points, options.plot)


if __name__ == "__main__":
    main()
