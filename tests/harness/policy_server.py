"""`triosmtp serve` with policy clients, as processes, on loopback ports."""

import re
import smtplib
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Self

from serve_process import COMMAND, ServeProcess, environment_of, run_server
from watchfiles import watch

from triosmtp.testing import Authority

ENVIRONMENT = environment_of(PYTHONUNBUFFERED="1")
TOKEN, ADMIN = "0123456789abcdef-token", "0123456789abcdef-admin"


class Program:
    """A process whose output can be read line by line."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def log(self) -> str:
        return self._errors.read_text()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.log}"
        return line.rstrip("\n")

    def until(self, pattern: str) -> re.Match[str]:
        while True:
            match = re.search(pattern, self.line())
            if match:
                return match

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running(command: Sequence[str], folder: Path, name: str) -> Iterator[Program]:
    errors = folder / f"{name}.err"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            command,
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        timer = Timer(120, process.kill)  # a test that waits for what never comes must fail, not hang
        timer.start()
        try:
            yield Program(process, errors)
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()


def wait_until(folder: Path, condition: Callable[[], bool]) -> None:
    """Wait until something holds that is written into a folder."""
    until = time.monotonic() + 30
    if condition():
        return
    for _ in watch(folder, debounce=50, step=20, rust_timeout=500, yield_on_timeout=True):
        if condition():
            return
        assert time.monotonic() < until, "it never came to be"


class Service:
    """The folder of a server: certificates, tokens, configuration."""

    def __init__(self, folder: Path, options: str = "", listener: str = "") -> None:
        self.folder = folder
        self.authority = Authority.create()
        self.clients = Authority.create("client CA")
        self.authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(folder, "server")
        (folder / "authority.pem").write_bytes(self.authority.certificate_pem)
        (folder / "ca.pem").write_bytes(self.clients.certificate_pem)
        self.clients.issue("good.example", dns=["good.example"]).write(folder, "good")
        Authority.create("foreign").issue("bad.example").write(folder, "bad")
        for name, text in (("token", TOKEN), ("admin", ADMIN)):
            (folder / name).write_text(f"  {text}\n\n")
            (folder / name).chmod(0o600)
        self.conf = folder / "t.conf"
        self.conf.write_text(CONFIGURATION.replace("# options", options).replace("# listener", listener))
        self.port = self.policy_port = 0

    @contextmanager
    def serving(self) -> Iterator[ServeProcess]:
        with run_server(
            "-c", str(self.conf), "--control", str(self.folder / "control"), log=self.folder / "serve.err",
            environment=ENVIRONMENT, cwd=self.folder, stdin=subprocess.DEVNULL,
        ) as server:  # fmt: skip
            server.wait_until_ready()
            self.port = server.port('Listen "127.0.0.1:0"')
            self.policy_port = server.port('Policy Listen "127.0.0.1:0"')
            yield server

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.policy_port}/"

    def smtp(self, certificate: str | None = "good") -> "Session":
        return Session(self, certificate)


class Session(smtplib.SMTP):
    """A session with STARTTLS done, presenting one of the certificates."""

    def __init__(self, service: Service, certificate: str | None) -> None:
        super().__init__("127.0.0.1", service.port, timeout=30)
        context = ssl.create_default_context(cafile=service.folder / "authority.pem")
        if certificate:
            context.load_cert_chain(service.folder / f"{certificate}.pem", service.folder / f"{certificate}.key")
        self._host = "localhost"  # what smtplib verifies
        self.ehlo("client.example.org")
        self.starttls(context=context)
        self.ehlo("client.example.org")

    def __enter__(self) -> Self:
        return self

    def one(self, sender: str = "a@example.org") -> tuple[int, bytes]:
        """Send one message, command by command; return the last reply: the final one, or the first refusal."""
        for command in (f"MAIL FROM:<{sender}>", "RCPT TO:<you@example.com>", "DATA"):
            answer = self.docmd(command)
            if answer[0] >= 400:
                self.rset()
                return answer
        self.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        return self.getreply()


CONFIGURATION = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:mail"
Policy = ( "websocket:fraud" )
# options
ESMTP_Listener {
  Listen "127.0.0.1:0" {
    TLS_Certificate = "server.pem"
    TLS_Key = "server.key"
    TLS_Client_CA = "ca.pem"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }
}
Policy_Listener {
  Token_File = "token"
  Admin_Token_File = "admin"
  Listen "127.0.0.1:0" { # listener
  }
  Listen "./policy.sock" { }
}
"""


def deciding(service: Service, folder: Path, *, refuse: str, mode: str = "enforce", url: str = "") -> list[str]:
    """Write a decider that refuses senders that begin so; return the command that runs it."""
    script = folder / f"decider_{mode}.py"
    script.write_text(DECIDER)
    return [COMMAND[0], str(script), url or service.url, TOKEN, refuse, mode]


DECIDER = """
import sys, trio
from triosmtp import Reject
from triosmtp.policy_client import PolicyClient

url, token, refuse, mode = sys.argv[1:]
client = PolicyClient(url, token=token, name="script", group="fraud", mode=mode)

@client.on("mailfrom")
async def check(request):
    if request.arguments["sender"].startswith(refuse):
        raise Reject(550, "5.7.1", "refused by script")

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        print("ready", flush=True)

trio.run(main)
"""
