"""A Postfix and the same sessions for it and for triosmtp, to compare what a filter sees of both."""

import shutil
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import trio
from private_postfix import running_smtpd

import triosmtp
from triosmtp.testing import Authority

CONF = """
Relay_Domains = ( "example.com" )
{options}
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "AUTH PLAIN" )
    TLS_Certificate = "{site}/server.pem"
    TLS_Key = "{site}/server.key"
    TLS_Client_CA = "{site}/ca.pem"
    AuthPlainParameters = [ uri = "file://{site}/passwords" ]
    Allow_Plaintext_Auth = true
  }}
}}
"""
CASES: list[tuple[str, str | None, ssl.TLSVersion | None, bool]] = [
    ("none", None, None, False),
    ("no certificate", None, ssl.TLSVersion.TLSv1_3, False),
    ("good", "good", ssl.TLSVersion.TLSv1_3, False),
    ("bad", "bad", ssl.TLSVersion.TLSv1_3, False),
    ("good 1.2", "good", ssl.TLSVersion.TLSv1_2, False),
    ("auth", "good", ssl.TLSVersion.TLSv1_3, True),
]
"""Sessions: a name, the certificate, the version of TLS, and whether the client authenticates."""


@contextmanager
def dovecot_login(path: Path) -> Iterator[None]:
    """Answer as Dovecot's authentication service: PLAIN, and every password is right."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    path.chmod(0o666)
    server.listen()

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rw", newline="\n") as stream:
            stream.write("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n")
            stream.flush()
            for line in stream:
                fields = line.rstrip("\n").split("\t")
                if fields[0] == "AUTH":
                    stream.write(f"OK\t{fields[1]}\tuser=mary\n")
                    stream.flush()

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            Thread(target=serve, args=(connection,), daemon=True).start()

    Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def certificates(folder: Path) -> Path:
    """Write the certificates of the server and of the clients ``good`` and ``bad``."""
    clients = Authority.create("client CA")
    Authority.create().issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(folder, "server")
    (folder / "ca.pem").write_bytes(clients.certificate_pem)
    clients.issue("Good Client+1", dns=["good.example"]).write(folder, "good")
    Authority.create("foreign").issue("bad.example").write(folder, "bad")
    return folder


def dialogue(port: int, site: Path, certificate: str | None, version: ssl.TLSVersion | None, *, auth: bool) -> None:
    """Send one message to two recipients."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        if version is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("ECDHE+AES256")
            if certificate:
                context.load_cert_chain(site / f"{certificate}.pem", site / f"{certificate}.key")
            client.starttls(context=context)
            client.ehlo("client.example.org")
        if auth:
            assert client.login("mary", "secret")[0] == 235
        parameters = " SIZE=1234" + (" AUTH=mary+2Bx@example.org" if auth else "")
        for command in (
            f'MAIL FROM:<"a b"@example.org>{parameters}',
            "RCPT TO:<You+x@example.com>",
            "RCPT TO:<other@Example.com>",
        ):
            code, text = client.docmd(command)
            assert code == 250, text
        assert client.docmd("DATA")[0] == 354
        client.send(b"Subject: x\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\n\r\nhello\r\n.\r\n")
        assert client.getreply()[0] == 250


def free_port() -> int:
    """Return a port of loopback that was free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def postfix_twin(site: Path, options: Iterable[str]) -> Iterator[int]:
    """Run a Postfix with the certificates of ``site``, and AUTH PLAIN for every password; yield its port."""
    folder, port = Path(tempfile.mkdtemp(prefix="triosmtp-twin-")), free_port()  # smtpd is not root
    folder.chmod(0o755)
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(site / name, folder / name)
    usual = [
        "smtpd_peername_lookup = no", "mynetworks =", "relay_domains = example.com",
        "smtpd_relay_restrictions = reject_unauth_destination", "smtpd_tls_security_level = may",
        f"smtpd_tls_cert_file = {folder}/server.pem", f"smtpd_tls_key_file = {folder}/server.key",
        f"smtpd_tls_CAfile = {folder}/ca.pem", "smtpd_tls_ask_ccert = yes", "smtpd_sasl_auth_enable = yes",
        "smtpd_sasl_type = dovecot", f"smtpd_sasl_path = {folder}/auth", "smtpd_sasl_security_options = noanonymous",
    ]  # fmt: skip
    try:
        with dovecot_login(folder / "auth"), running_smtpd(port, [*usual, *options]):
            yield port
    finally:
        shutil.rmtree(folder)


async def serve_dialogue(
    site: Path, options: str, certificate: str | None, version: ssl.TLSVersion | None, *, auth: bool
) -> None:
    """Serve with ``options``, and the certificates of ``site``, while :func:`dialogue` sends its message."""
    (site / "passwords").touch(0o600)
    (site / "passwords").write_text("mary:secret\n")
    config = triosmtp.parse_config(CONF.format(options=options, site=site))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=_discard))
        port = server.addresses["127.0.0.1:0"][1]
        await trio.to_thread.run_sync(partial(dialogue, port, site, certificate, version, auth=auth))
        await server.aclose()


async def _discard(_message: triosmtp.Message) -> None:
    """Take a message."""
