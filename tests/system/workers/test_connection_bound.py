"""Max_Outbound_Connections bounds a target over all workers: under load, when a worker dies, and at a reload."""

import os
import signal
import smtplib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from counting_hop import CountingHop, counting_hop
from worker_service import WorkerService, workers

OPTIONS = """
Workers = {workers}  Connections_Per_Peer = 0
Delivery "hop" {{ Deliver_To = "smtp://127.0.0.1:{port}" Max_Outbound_Connections = {limit} {more} }}
Status_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""


@contextmanager
def site(
    folder: Path, limit: int, processes: int = 2, seconds: float = 0.0
) -> Iterator[tuple[CountingHop, WorkerService]]:
    with counting_hop(seconds) as hop:
        options = OPTIONS.format(workers=processes, port=hop.port, limit=limit, more="")
        with workers(folder, options, 'Deliver_To = "hop"') as service:
            yield hop, service


class Clients:
    """Clients at addresses of their own, each in a thread, that send one message after another."""

    def __init__(self, service: WorkerService, number: int) -> None:
        self._service = service
        self.codes: Counter[tuple[int, int]] = Counter()
        """How often each client received each code."""
        self._stopped = threading.Event()
        self._counted = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in range(number)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self._stopped.is_set():
            try:
                with smtplib.SMTP(timeout=60, source_address=(f"127.0.8.{number + 1}", 0)) as client:
                    client.connect("127.0.0.1", self._service.port)
                    while not self._stopped.is_set():
                        code = _send(client, f"client{number}@example.org")
                        if code == 421:  # a reload ends the session
                            break
                        self._count(number, code)
            except OSError:  # its worker was killed
                continue

    def _count(self, number: int, code: int) -> None:
        with self._counted:
            self.codes[number, code] += 1
            self._counted.notify_all()

    def until(self, more: int) -> None:
        """Wait until each client had so many more messages accepted."""
        with self._counted:
            before = self.codes.copy()
            done = self._counted.wait_for(
                lambda: all(
                    self.codes[number, 250] >= before[number, 250] + more for number in range(len(self._threads))
                ),
                60,
            )
            assert done, self.codes

    def finish(self) -> None:
        """Stop, and check that nothing else than 250 was answered."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)
        assert {code for _, code in self.codes} == {250}, self.codes


def reload(service: WorkerService) -> None:
    answer = service.console("config reload")
    assert answer["status"] == 0, answer


def _send(client: smtplib.SMTP, sender: str) -> int:
    try:
        client.sendmail(sender, ["a@example.com"], "Subject: x\r\n\r\ntext\r\n")
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    return 250


@pytest.mark.parametrize(("limit", "processes"), [(3, 2), (1, 3)])
def test_never_more_connections_than_allowed_and_every_worker_delivers(
    tmp_path: Path, limit: int, processes: int
) -> None:
    with site(tmp_path, limit, processes, 0.002) as (hop, service):
        clients = Clients(service, 2 * processes)  # spread evenly
        clients.until(5)
        clients.finish()
        assert hop.most == limit


def test_a_killed_worker_and_a_reload(tmp_path: Path) -> None:
    """The connections of a killed worker are given to others; both configurations of a reload share the bound."""
    with site(tmp_path, 2, 2, 0.002) as (hop, service):
        clients = Clients(service, 4)
        clients.until(2)
        os.kill(service.workers[0], signal.SIGKILL)
        clients.until(2)
        service.until(lambda: service.logged("has replaced a worker"))
        clients.until(2)
        reload(service)
        clients.until(2)
        clients.finish()
        assert hop.most == 2


def test_a_reload_with_another_number_holds_for_all_workers(tmp_path: Path) -> None:
    with site(tmp_path, 3, 2, 0.002) as (hop, service):
        clients = Clients(service, 4)
        clients.until(1)
        text = service.conf.read_text()
        service.conf.write_text(text.replace("Max_Outbound_Connections = 3", "Max_Outbound_Connections = 1"))
        reload(service)
        for _ in range(20):  # steps that had begun end, and then their connections
            hop.count_again()
            clients.until(1)
            if hop.most == 1:
                break
        hop.count_again()
        clients.until(1)
        clients.finish()
        assert hop.most == 1
