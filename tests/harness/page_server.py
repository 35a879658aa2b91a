"""`triosmtp serve` with certificates, a Status_Listener, and Listens for every kind of figure on the page."""

import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import Factory, define
from chromium import TIMEOUT
from serve_process import COMMAND, run_cleanly

from triosmtp.testing import Authority

EVIL = "<img src=x onerror=document.title=1><script>document.title=1"
MAIL, PROXIED, BROKEN = "127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"
CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
Status_Listener {{ Listen "127.0.0.1:0" {{ {token} }} }}
ESMTP_Listener {{
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "PIPELINING" "8BITMIME" "SMTPUTF8" )
  Listen "127.0.0.1:0" {{ }}
  Listen "127.0.0.2:0" {{ Proxy_Protocol = ( "127.0.0.0/8" ) }}
  Listen "127.0.0.3:0" {{ Deliver_To = "python:full:refuse" }}
}}
"""
FULL = """
from triosmtp import Reject


async def refuse(message):
    raise Reject(452, "4.2.2", "Mailbox full")
"""


@define
class Site:
    """A server that runs."""

    folder: Path
    process: subprocess.Popen[str]
    authority: Authority
    ports: dict[str, int] = Factory(dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['status']}/"

    def session(self, certificate: str = "client", listen: str = MAIL) -> smtplib.SMTP:
        """Begin a session over TLS, and keep it."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.check_hostname = False
        context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        smtp = smtplib.SMTP(listen.partition(":")[0], self.ports[listen], timeout=TIMEOUT)
        smtp.starttls(context=context)
        smtp.ehlo()
        return smtp

    def refuse(self, peer: str, times: int, local: str = "number") -> None:
        """Send recipients that are refused, each in its own command."""
        lines = [f"RCPT TO:<{local}{number}.with.a.long.local.part@elsewhere.example>" for number in range(times)]
        commands = ["EHLO client.example", "MAIL FROM:<newsletter@lists.sender.example> SMTPUTF8", *lines, "QUIT"]
        with socket.create_connection((PROXIED.partition(":")[0], self.ports[PROXIED]), TIMEOUT) as sock:
            kind = "TCP6" if ":" in peer else "TCP4"
            sock.sendall(f"PROXY {kind} {peer} {peer} 40000 25\r\n".encode())
            with sock.makefile("rb") as replies:
                assert replies.readline().startswith(b"220 ")
                sock.sendall("".join(f"{command}\r\n" for command in commands[:-1]).encode())
                sock.sendall(b"QUIT\r\n")
                assert replies.read().count(b"\r\n550 ") == times

    def top(self, *arguments: str) -> list[str]:
        return [*COMMAND, "top", "--control", str(self.folder / "control"), *arguments]


@contextmanager
def serving(
    folder: Path, token: str = "", *, more: str = "", names: Sequence[str] = (), conf: str = CONF
) -> Iterator[Site]:
    """Serve ``conf``; ``names`` are further names of the certificate, ``more`` are further options."""
    authority = Authority.create()
    soon = datetime.now(UTC) + timedelta(days=5)
    all_names = ["localhost", "mx.example.com", *names]
    authority.issue("localhost", dns=all_names, ip=["127.0.0.1"], not_after=soon).write(folder, "server")
    authority.issue("client", dns=["client.example"], usage=["client"]).write(folder, "client")
    Authority.create("stranger").issue(EVIL, usage=["client"]).write(folder, "stranger")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "full.py").write_text(FULL)
    (folder / "my.conf").write_text(conf.format(folder=folder, token=token) + more)
    with run_cleanly("-c", str(folder / "my.conf"), log=folder / "log", control=folder / "control") as server:
        listens = {name: server.port(name) for name in server.addresses if name.startswith("Listen ")}
        ports = {name.split('"')[1]: port for name, port in listens.items()}
        yield Site(folder, server.process, authority, {**ports, "status": server.port("Status Listen ")})
