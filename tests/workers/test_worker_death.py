"""What becomes of a service whose processes die, and of one that ends under load."""

import os
import select
import signal
import smtplib
import socket
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
        service.until(lambda: service.logged("has taken the place"))
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


def test_nobody_to_serve_is_waited_out(tmp_path: Path) -> None:
    with workers(tmp_path) as service:
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        assert service.session().noop()[0] == 250  # as soon as there is one again


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


def test_workers_without_a_supervisor_finish_and_end(tmp_path: Path) -> None:
    with workers(tmp_path) as service:
        left = [os.pidfd_open(pid) for pid in service.workers]
        unfinished = service.session()
        assert unfinished.mail("a@example.org")[0] == 250
        service.process.kill()
        service.process.wait()
        assert unfinished.rcpt("b@example.com")[0] == 250
        assert unfinished.data(b"X-Id: unfinished\r\n\r\n")[0] == 250
        assert unfinished.getreply()[0] == 421
        for each in left:
            assert select.select([each], [], [], 60)[0]  # it has ended
            os.close(each)
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
