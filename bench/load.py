"""The load: one process a client, all on the load's CPU, bounded in time; the server's CPU time is read around it."""

import multiprocessing
import os
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

from attrs import frozen

from bench.client import Credentials, connect, make_context, make_message
from bench.process import LOAD_CPU, Server
from bench.scenario import Scenario

__all__ = ["Sample", "measure"]

_WARM_UP = 0.5  # seconds of load before the measured part
_TIMEOUT = 60.0  # seconds beyond the run's own that a party may be late
_processes = multiprocessing.get_context("spawn")


@frozen(slots=True)
class Sample:
    """One run: what it measured, in the scenario's unit, and how it came about."""

    figure: float
    cpu_seconds: float
    messages: int
    seconds: float


def measure(
    scenario: Scenario,
    server: Server,
    credentials: Credentials,
    seconds: float,
    cpus: frozenset[int] = frozenset({LOAD_CPU}),
) -> Sample:
    """Load ``server`` for about ``seconds`` (each client ends the message that it is at) and return its CPU per unit.

    The clients run on ``cpus``.

    :raises RuntimeError: if a client failed, with its reason.
    """
    barrier = _processes.Barrier(scenario.clients + 1)
    results: SimpleQueue[int | str] = _processes.SimpleQueue()
    arguments = (scenario, server.port, credentials, seconds, barrier, results, cpus)
    clients = [_processes.Process(target=_run_client, args=arguments, daemon=True) for _ in range(scenario.clients)]
    for client in clients:
        client.start()
    timeout = seconds + _WARM_UP + _TIMEOUT
    try:
        barrier.wait(timeout)  # all have warmed the server up
        before, began = _settled_cpu(server), time.monotonic()
        barrier.wait(timeout)  # they begin
        barrier.wait(timeout)  # they have ended
        ended = time.monotonic()
        cpu = _settled_cpu(server) - before
    except BrokenBarrierError:
        failures = []
        while not results.empty():
            failures.append(str(results.get()))
        raise RuntimeError(failures[0] if failures else "the clients were late") from None
    counts = [results.get() for _ in clients]
    for client in clients:
        client.join()
    messages = sum(count for count in counts if isinstance(count, int))
    return Sample(scenario.figure(cpu, messages), cpu, messages, ended - began)


def _settled_cpu(server: Server) -> float:
    """Read the CPU time once the server has nothing left to do."""
    last = server.cpu_seconds()
    while True:
        time.sleep(0.1)
        now = server.cpu_seconds()
        if now == last:
            return now
        last = now


def _run_client(
    scenario: Scenario,
    port: int,
    credentials: Credentials,
    seconds: float,
    barrier: Barrier,
    results: "SimpleQueue[int | str]",
    cpus: frozenset[int],
) -> None:
    os.sched_setaffinity(0, cpus)
    try:
        results.put(_drive(scenario, port, credentials, seconds, barrier))
    except BrokenBarrierError:
        pass  # another client failed, and told
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it and ends the benchmark
        results.put(f"{type(error).__name__}: {error}")
        barrier.abort()


def _drive(scenario: Scenario, port: int, credentials: Credentials, seconds: float, barrier: Barrier) -> int:
    context = make_context(scenario, credentials)
    payload = make_message(scenario.message_size) + b".\r\n"
    client = connect(port, context) if scenario.persistent else None

    def deliver_until(deadline: float) -> int:
        count = 0
        while not count or time.monotonic() < deadline:
            if client is not None:
                if scenario.pipelined:
                    client.deliver_pipelined(payload)
                else:
                    client.deliver(payload)
            else:
                once = connect(port, context)
                if scenario.message_size:
                    once.deliver(payload)
                once.quit()
            count += 1
        return count

    deliver_until(time.monotonic() + _WARM_UP)
    barrier.wait()
    barrier.wait()
    count = deliver_until(time.monotonic() + seconds)
    barrier.wait()
    if client is not None:
        client.quit()
    return count
