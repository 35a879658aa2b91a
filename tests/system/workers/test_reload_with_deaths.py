"""A worker that dies while a reload is under way: the service and its other sessions go on."""

import os
import signal
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker_service import WorkerService, told, workers

_POLICY = """\
import logging, os, sys
from pathlib import Path
from triosmtp import Policy
folder = Path(__file__).parent
if "triosmtp.workers.worker" in " ".join(sys.orig_argv) and not (folder / "open").exists():
    gate = folder / f"gate-{os.getpid()}"
    os.mkfifo(gate)
    logging.getLogger("triosmtp.gated").warning("importing in %d", os.getpid())
    gate.read_text()  # until somebody has written to it
class Gated(Policy):
    pass
"""
_OLD = 'Workers = 2 Banner_Hostname = "one.example"'
_NEW = 'Workers = 2 Banner_Hostname = "two.example" Policy = ( "python:gated:Gated" )'


def _importing(service: WorkerService, pid: int) -> None:
    service.until(lambda: service.logged(f"importing in {pid}"))


def _let_pass(folder: Path, pid: int) -> None:
    (folder / f"gate-{pid}").write_text("go")


@contextmanager
def _reload_with_a_death(folder: Path) -> Iterator[tuple[WorkerService, int, int]]:
    """Begin a reload, and have a worker replaced before it is over; return the other worker and the new one.

    The sessions of the former must be there at the end, and all workers have the new configuration.
    """
    with workers(folder, _OLD) as service:
        sessions = [service.session(), service.session()]  # one in each
        (folder / "gated.py").write_text(_POLICY)
        service.write(_NEW)
        service.process.send_signal(signal.SIGHUP)
        keeps, dies = service.workers
        _importing(service, keeps)
        _importing(service, dies)
        os.kill(dies, signal.SIGKILL)
        service.until(lambda: service.logged("has replaced a worker"))
        (replacement,) = set(service.workers) - {keeps}
        yield service, keeps, replacement
        service.until(lambda: sum("has replaced a worker" in str(each.get("message")) for each in service.log) == 2)
        assert {told(service)[1].split()[0] for _ in range(4)} == {"two.example"}
        assert sum(_goes_on(session) for session in sessions) == 1


def _goes_on(session: smtplib.SMTP) -> bool:
    try:
        return session.noop()[0] == 250
    except smtplib.SMTPServerDisconnected:
        return False


def test_a_worker_that_dies_as_it_catches_up_is_replaced(tmp_path: Path) -> None:
    with _reload_with_a_death(tmp_path) as (service, keeps, replacement):
        _let_pass(tmp_path, keeps)
        _importing(service, replacement)
        (tmp_path / "open").touch()
        os.kill(replacement, signal.SIGKILL)


def test_a_worker_that_cannot_catch_up_is_replaced_when_that_can_be(tmp_path: Path) -> None:
    with _reload_with_a_death(tmp_path) as (service, keeps, replacement):
        (tmp_path / "gated.py").write_text("raise RuntimeError('broken policy')\n")
        _let_pass(tmp_path, keeps)
        failures = f"(process {replacement}) cannot serve: "
        service.until(lambda: service.logged(failures))
        assert service.logged("broken policy")
        assert told(service)[1].split()[0] == "two.example"
        (tmp_path / "gated.py").write_text("from triosmtp import Policy\nclass Gated(Policy):\n    pass\n")
