"""`triosmtp serve` with filters, for tests with real ones."""

import smtplib
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policy_server import Program, running
from serve_process import COMMAND

from triosmtp.testing import Authority

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:mail"
{options}
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{
    TLS_Certificate = "server.pem"
    TLS_Key = "server.key"
    TLS_Client_CA = "ca.pem"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }}
}}
"""


@contextmanager
def filter_folder() -> Iterator[Path]:
    """Make a folder with the certificates of the server and of the clients ``good`` and ``bad``."""
    with tempfile.TemporaryDirectory(prefix="triosmtp-filter-") as name:  # short enough for a Unix socket
        path = Path(name)
        clients = Authority.create("client CA")
        Authority.create().issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(path, "server")
        (path / "ca.pem").write_bytes(clients.certificate_pem)
        clients.issue("good.example", dns=["good.example"]).write(path, "good")
        Authority.create("foreign").issue("bad.example").write(path, "bad")
        yield path


@contextmanager
def serving(folder: Path, options: str) -> Iterator[tuple[Program, int]]:
    """Run a server with these options; yield it and its port."""
    (folder / "t.conf").write_text(CONF.format(options=options))
    command = [*COMMAND, "serve", "-c", str(folder / "t.conf"), "--control", str(folder / "control")]
    with running(command, folder, "serve") as program:
        port = int(program.until(r'^Listen "127.0.0.1:0": .* port (\d+)')[1])
        program.until("^Control socket")
        yield program, port


BODY = b"Subject: x\r\n\r\nhello\r\n"


def started_tls(client: smtplib.SMTP, folder: Path, certificate: str | None) -> None:
    """Send EHLO, and start TLS unless ``certificate`` is None; it may be ``""`` for none."""
    client.ehlo("client.example.org")
    if certificate is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
    client.starttls(context=context)
    client.ehlo("client.example.org")


def message(
    port: int,
    folder: Path,
    certificate: str | None = None,
    recipient: str = "you@example.com",
    body: bytes = BODY,
    host: str = "127.0.0.1",
    sender: str = "a@example.org",
) -> str:
    """Send one message; return the first refusal, or the last reply.

    ``certificate`` is ``""`` for TLS without one, and None for plaintext.
    """
    with smtplib.SMTP(host, port, timeout=30) as client:
        started_tls(client, folder, certificate)
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            code, text = client.docmd(command)
            if code >= 400:
                return f"{code} {text.decode()}"
        client.send(body + b".\r\n")
        code, text = client.getreply()
        return f"{code} {text.decode()}"
