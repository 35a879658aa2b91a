"""A service goes on when its processes die, and ends in good order under load."""

import ctypes
import os
import signal
import smtplib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from worker_service import Load, workers


def test_a_killed_worker_takes_nothing_along_but_its_sessions(tmp_path: Path) -> None:
    with workers(tmp_path, "Workers = 4") as service:
        idle = [service.session() for _ in range(8)]
        before = service.workers
        assert len(before) == 4
        load = Load(service, 8)
        load.until(100)
        os.kill(before[0], signal.SIGKILL)
        load.until(200)
        service.until(lambda: service.logged("has replaced a worker"))
        load.finish()
        assert set(load.accepted) <= service.stored()
        assert len(service.workers) == 4
        gone = 0
        for session in idle:
            try:
                assert session.noop()[0] == 250
            except smtplib.SMTPServerDisconnected:
                gone += 1
        assert gone == 2  # they were spread evenly
        failed = [each for each in service.log if each["event"] == "disconnected" and each["reason"] == "failed"]
        assert len(failed) >= 2
        assert len(service.inbound()) == 6


def test_connections_that_a_dead_worker_had_not_taken_are_served_by_others(tmp_path: Path) -> None:
    with workers(tmp_path) as service:
        asleep = service.workers[0]
        os.kill(asleep, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(20)]
        os.kill(asleep, signal.SIGKILL)
        for client in clients:
            assert client.recv(4) == b"220 "
        assert len(service.inbound()) == 20
        for client in clients:
            client.close()


def test_nobody_to_serve_is_told_and_waited_out(tmp_path: Path) -> None:
    policy = tmp_path / "fine.py"
    text = "from triosmtp import Policy\nclass Fine(Policy):\n    pass\n"
    policy.write_text(text)
    options = 'Workers = 2 Policy = ( "python:fine:Fine" ) Status_Listener { Listen "127.0.0.1:0" { } }'
    with workers(tmp_path, options) as service:

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{service.status_port}{path}", timeout=60) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        assert get("/readyz")[0] == 200
        assert {'triosmtp_workers{state="ready"} 2.0', "triosmtp_worker_deaths_total 0.0"} < set(
            get("/metrics")[1].splitlines()
        )
        policy.write_text("raise RuntimeError('broken policy')\n")
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        service.until(lambda: sum("cannot serve" in str(each.get("message")) for each in service.log) >= 2)
        assert get("/readyz")[0] == 503
        metrics = get("/metrics")[1]
        assert 'triosmtp_workers{state="ready"} 0.0' in metrics
        assert 'triosmtp_workers{state="starting"} 2.0' in metrics
        assert float(metrics.partition("\ntriosmtp_worker_deaths_total ")[2].split()[0]) >= 2
        assert service.console("overview")["data"]["state"] == "no worker"
        policy.write_text(text)
        assert service.session().noop()[0] == 250  # as soon as there is one again
        assert get("/readyz")[0] == 200


@pytest.mark.parametrize("count", [1, 2])
def test_drain_under_load_resets_nobody(tmp_path: Path, count: int) -> None:
    with workers(tmp_path, f"Workers = {count}") as service:
        load = Load(service, 12)
        load.until(100)
        unfinished = service.session()
        assert unfinished.mail("a@example.org")[0] == 250
        idle = service.session()
        service.process.send_signal(signal.SIGTERM)
        assert idle.getreply()[0] == 421
        assert unfinished.rcpt("b@example.com")[0] == 250
        assert unfinished.data(b"X-Id: unfinished\r\n\r\n")[0] == 250
        assert unfinished.getreply()[0] == 421
        load.finish()
        assert set(load.ends) <= {"421"}
        assert service.process.wait(60) == 0
        assert {*load.accepted, "unfinished"} <= service.stored()


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of grandchildren whose parent has died, to learn how they end."""
    set_child_subreaper = partial(ctypes.CDLL(None).prctl, 36)
    assert set_child_subreaper(1, 0, 0, 0) == 0
    try:
        yield
    finally:
        set_child_subreaper(0, 0, 0, 0)


def test_workers_without_a_supervisor_finish_and_end(tmp_path: Path) -> None:
    with adopting(), workers(tmp_path) as service:
        left = service.workers
        unfinished = service.session()
        assert unfinished.mail("a@example.org")[0] == 250
        service.process.kill()
        service.process.wait()
        assert unfinished.rcpt("b@example.com")[0] == 250
        assert unfinished.data(b"X-Id: unfinished\r\n\r\n")[0] == 250
        assert unfinished.getreply()[0] == 421
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in left] == [0, 0]
        service.read_log_to_its_end()
        assert not service.logged("Traceback"), service.log
        assert service.stored() == {"unfinished"}


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with workers(tmp_path) as service:
        left = service.workers
        unfinished = service.session()
        assert unfinished.mail("a@example.org")[0] == 250
        idle = service.session()
        service.process.send_signal(signal.SIGTERM)
        assert idle.getreply()[0] == 421
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]
