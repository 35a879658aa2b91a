"""`python -m bench.workers`: what workers bring, and what thousands of idle TLS connections cost.

Throughput is measured in turns with one process and with two workers, server and load together on all cores: so what
the load takes, the server has not.  CPU is that of the whole process tree of the server for each message.  Idle
connections have done STARTTLS and said EHLO; at the end every one of them is spoken to, and must answer.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.client import Client, Credentials, connect, make_context, make_message
from bench.credential import make_credentials
from bench.load import Sample, measure
from bench.process import Server, free_port, raise_descriptor_limit, run_server
from bench.scenario import SCENARIOS

__all__ = ["main", "measure_gain"]

_CONFIGURATION = """\
Workers = {workers}
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}"
Idle_Time = 3600
ESMTP_Listener {{
  TLS_Certificate = "{certificate}"
  TLS_Key = "{key}"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  Listen "127.0.0.1:{port}" {{ }}
}}
"""
_CPUS = frozenset(os.sched_getaffinity(0))


@contextmanager
def _serving(workers: int) -> Iterator[tuple[Server, Credentials]]:
    with tempfile.TemporaryDirectory(prefix="triosmtp-bench-") as name:
        folder, port = Path(name), free_port()
        credentials = make_credentials(folder)
        conf = folder / "bench.conf"
        certificate, key = credentials.server_certificate, credentials.server_key
        conf.write_text(
            _CONFIGURATION.format(workers=workers, folder=folder, port=port, certificate=certificate, key=key)
        )
        command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(conf), "--control", str(folder / "control")]
        cpus = ",".join(map(str, sorted(_CPUS)))
        with (folder / "output").open("wb") as log, run_server(command, port, log, cpus) as server:
            yield server, credentials


def measure_gain(name: str, seconds: float, rounds: int) -> float:
    """Print the throughput of one process and of two workers, and return how many times more two workers carry."""
    scenario = SCENARIOS[name]
    samples: dict[int, list[Sample]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in samples.items():
            with _serving(workers) as (server, credentials):
                found.append(measure(scenario, server, credentials, seconds, _CPUS))
    rates: dict[int, float] = {}
    for workers, found in samples.items():
        rate = rates[workers] = statistics.median(sample.messages / sample.seconds for sample in found)
        figure = statistics.median(sample.cpu_seconds * 1000 / sample.messages for sample in found)
        print(f"{scenario.title:<58} Workers = {workers}  {rate:8.0f} /s  {figure:6.2f} ms CPU", flush=True)
    return rates[2] / rates[1]


def _message(server: Server, credentials: Credentials, number: int) -> tuple[float, float, float]:
    """Return the median milliseconds of a TLS connection with a message, and the CPU of server and supervisor."""
    context = make_context(SCENARIOS["De"], credentials)
    payload = make_message(2048) + b".\r\n"
    times, cpu, supervisor = [], server.cpu_seconds(), server.main_cpu_seconds()
    for _ in range(number):
        begun = time.perf_counter()
        client = connect(server.port, context)
        client.deliver(payload)
        client.quit()
        times.append((time.perf_counter() - begun) * 1000)
    time.sleep(0.2)
    cpu, supervisor = server.cpu_seconds() - cpu, server.main_cpu_seconds() - supervisor
    return statistics.median(times), cpu * 1000 / number, supervisor * 1000 / number


def _idle(connections: int) -> None:
    with _serving(2) as (server, credentials):
        context = make_context(SCENARIOS["De"], credentials)
        alone = _message(server, credentials, 200)
        before = server.memory(), server.memory("Pss")
        clients: list[Client] = []
        try:
            clients.extend(connect(server.port, context) for _ in range(connections))
            after = server.memory(), server.memory("Pss")
            beside = _message(server, credentials, 200)
            lost = sum(not _answers(client) for client in clients)
        finally:
            for client in clients:
                client.close()
    rss, pss = ((now - then) / 1024 / connections for now, then in zip(after, before, strict=True))
    print(f"{connections} idle TLS connections, two workers: {rss:.1f} KiB each (PSS {pss:.1f}), {lost} lost")
    for what, (milliseconds, cpu, supervisor) in (("alone", alone), ("beside them", beside)):
        print(
            f"a new TLS connection with a message, {what}: {milliseconds:.1f} ms, {cpu:.2f} ms CPU, "
            f"{supervisor:.2f} ms of it in the supervisor"
        )


def _answers(client: Client) -> bool:
    try:
        client.noop()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    raise_descriptor_limit()
    for name in ("B", "De"):
        measure_gain(name, options.seconds, options.rounds)
    _idle(options.connections)


if __name__ == "__main__":
    main()
