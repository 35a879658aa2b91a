"""`triosmtp serve` with workers, in processes of its own, and clients that load it."""

import json
import os
import re
import signal
import smtplib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_process import COMMAND, REPOSITORY, start_server

from triosmtp.testing import Authority

ADMIN = "0123456789abcdef-admin"
_TIMEOUT = 60.0


class WorkerService:
    """Serves one folder: configuration, certificate, mail and log lie in it."""

    def __init__(
        self, folder: Path, descriptors: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.conf = folder / "t.conf"
        limit = f"ulimit -n {descriptors or '$(ulimit -n)'}"
        self._command = ("sh", "-c", f'{limit}; exec "$@"', "sh", *COMMAND, "serve")
        self.port = self.policy_port = self.status_port = 0
        self._changed = threading.Condition()
        self._log: list[dict[str, Any]] = []
        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "STATE_DIRECTORY": str(folder / "state")}
        self.environment |= {"TRIOSMTP_LOG_FORMAT": "json", **(environment or {})}
        self.process: subprocess.Popen[str]
        self._clients: list[smtplib.SMTP] = []
        self._reader: threading.Thread
        Authority.create().issue("localhost", dns=["localhost"]).write(folder, "server")
        (folder / "token").write_text(ADMIN)
        (folder / "token").chmod(0o600)

    def write(self, options: str, listener: str = "") -> None:
        """Write the configuration."""
        self.conf.write_text(
            f'Relay_Domains = ( "example.com" )\nDeliver_To = "maildir:{self.folder}/Maildir"\n{options}\n'
            f'ESMTP_Listener {{ TLS_Certificate = "{self.folder}/server.pem" TLS_Key = "{self.folder}/server.key"\n'
            f'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )\n{listener}\nListen "127.0.0.1:0" {{ }}\n}}\n'
            f'Policy_Listener {{ Admin_Token_File = "{self.folder}/token" Listen "127.0.0.1:0" {{ }} }}\n'
        )

    def start(self) -> None:
        """Start it, and return when it serves."""
        server = start_server(
            "-c", str(self.conf), "--control", str(self.folder / "control"), command=self._command, cwd=self.folder,
            environment=self.environment,
        )  # fmt: skip
        self.process = server.process
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            server.wait_until_ready()
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._log}") from None
        self.port = server.port("Listen ")
        for kind, name in (("Policy ", "policy_port"), ("Status ", "status_port")):
            if any(each.startswith(kind) for each in server.addresses):
                setattr(self, name, server.port(kind))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": "no JSON", "message": line}
            with self._changed:
                self._log.append(record)
                self._changed.notify_all()

    def read_log_to_its_end(self) -> None:
        """Wait until every process that could write to it has ended."""
        self._reader.join(_TIMEOUT)
        assert not self._reader.is_alive()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log so far."""
        with self._changed:
            return list(self._log)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true that may change with each log line."""
        end = time.monotonic() + _TIMEOUT
        with self._changed:
            while not condition():
                assert self._changed.wait(end - time.monotonic()), self._log[-20:]

    def logged(self, text: str) -> bool:
        """Return whether the log says so anywhere."""
        return any(text in str(record.get("message")) for record in self.log)

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()  # each thread's children are its own
        return sorted(int(each) for task in tasks for each in (task / "children").read_text().split())

    def session(self) -> smtplib.SMTP:
        """Connect, and say EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=_TIMEOUT)
        self._clients.append(client)
        client.ehlo()
        return client

    def hang_up(self) -> None:
        """Close the connections of all sessions, which the end of the service would wait for."""
        while self._clients:
            self._clients.pop().close()

    def console(self, words: str) -> Any:
        """Let the console run one command, and return its whole answer."""
        command = [*COMMAND, "console", "--json", "--control", str(self.folder / "control"), words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, check=False, text=True, timeout=60
        )
        return json.loads(done.stdout)

    def inbound(self) -> list[dict[str, Any]]:
        """Return the sessions that `show inbound` lists."""
        rows: list[dict[str, Any]] = self.console("show inbound")["data"]
        return rows

    def stored(self) -> set[str]:
        """Return the X-Id of every message in the Maildir."""
        new = self.folder / "Maildir" / "new"
        texts = [path.read_text() for path in new.iterdir()] if new.exists() else []
        return {match[1] for text in texts if (match := re.search(r"^X-Id: (\S+)", text, re.MULTILINE))}

    def close(self) -> None:
        """Leave nothing behind."""
        self.hang_up()
        if self.process.poll() is None:
            left = self.workers
            self.process.kill()
            for pid in left:
                os.kill(pid, signal.SIGKILL)  # one that a test has stopped would not end by itself
        self.process.wait()
        self._reader.join(_TIMEOUT)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def end(self) -> int:
        """Drain it, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_TIMEOUT)


@contextmanager
def workers(
    folder: Path,
    options: str = "Workers = 2",
    listener: str = "",
    descriptors: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[WorkerService]:
    """Serve until the block is left; it must end well, and no worker may stay behind."""
    service = WorkerService(folder, descriptors, environment)
    service.write(options, listener)
    service.start()
    try:
        yield service
        if service.process.poll() is None:
            left = service.workers
            assert service.end() == 0, service.log
            assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]
            assert not service.logged("Traceback"), service.log
    finally:
        service.close()


def told(service: WorkerService) -> tuple[int, str]:
    """Return what a fresh connection is greeted with."""
    with smtplib.SMTP(timeout=60) as client:
        code, text = client.connect("127.0.0.1", service.port)
        return code, text.decode()


class Load:
    """Clients in threads that send message after message, and record the replies."""

    def __init__(self, service: WorkerService, clients: int, messages: int = 50) -> None:
        self._service = service
        self._messages = messages
        self._stop = threading.Event()
        self._counted = threading.Condition()
        self.accepted: list[str] = []
        """Messages that were answered 250."""
        self.ends: Counter[str] = Counter()
        """How connections ended, other than by QUIT."""
        self._threads = [threading.Thread(target=self._run, args=(str(number),)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            client = smtplib.SMTP(timeout=_TIMEOUT)
            try:
                client.connect("127.0.0.1", self._service.port)
                code, said = client.ehlo()  # sendmail() would try HELO after a 421
                if code != 250:
                    raise smtplib.SMTPResponseException(code, said)
                for _ in range(self._messages):
                    number += 1
                    text = f"X-Id: {name}-{number}\r\n\r\nhello\r\n"
                    client.sendmail("a@example.org", ["b@example.com"], text)
                    with self._counted:
                        self.accepted.append(f"{name}-{number}")
                        self._counted.notify_all()
                    if self._stop.is_set():
                        break
                client.quit()
            except ConnectionRefusedError:
                return  # it has ended
            except smtplib.SMTPResponseException as error:
                self.ends[str(error.smtp_code)] += 1
            except OSError as error:
                self.ends[repr(error)] += 1
            finally:
                client.close()

    def until(self, more: int) -> None:
        """Wait until so many more messages were accepted."""
        end = time.monotonic() + _TIMEOUT
        with self._counted:
            wanted = len(self.accepted) + more
            while len(self.accepted) < wanted:
                assert self._counted.wait(end - time.monotonic()), self.ends

    def finish(self) -> None:
        """Stop, and wait for every client."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT)
            assert not thread.is_alive()
