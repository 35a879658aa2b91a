"""The attributes of a policy request, compared with those of Postfix."""

import shutil
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import trio
from policyd_service import PolicydService, Request, policyd_service
from private_postfix import running_smtpd

import triosmtp
from triosmtp.filters.policyd_attributes import OWN_ATTRIBUTES, POSTFIX_ATTRIBUTES
from triosmtp.testing import Authority

PHASES = "connect ehlo mailfrom rcptto data data_spool"
NOT_SENT = {"mail_version", "compatibility_level", "stress"}
IDS = {"queue_id", "instance", "client_port", "server_port"}


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    clients = Authority.create("client CA")
    Authority.create().issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(folder, "server")
    (folder / "ca.pem").write_bytes(clients.certificate_pem)
    clients.issue("Good Client+1", dns=["good.example"]).write(folder, "good")
    Authority.create("foreign").issue("bad.example").write(folder, "bad")
    return folder


def dialogue(port: int, site: Path, certificate: str | None, version: ssl.TLSVersion | None, *, auth: bool) -> None:
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
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def postfix(site: Path, policyd: int, folder: Path) -> Iterator[int]:
    port, ask = free_port(), f"check_policy_service inet:127.0.0.1:{policyd}"
    with dovecot_login(folder / "auth"):
        options = [
            "smtpd_peername_lookup = no", "mynetworks =", "smtpd_delay_reject = no", "relay_domains = example.com",
            f"smtpd_client_restrictions = {ask}", f"smtpd_helo_restrictions = {ask}",
            f"smtpd_sender_restrictions = {ask}", "smtpd_relay_restrictions = reject_unauth_destination",
            f"smtpd_recipient_restrictions = {ask}", f"smtpd_data_restrictions = {ask}",
            f"smtpd_end_of_data_restrictions = {ask}", "smtpd_tls_security_level = may",
            f"smtpd_tls_cert_file = {folder}/server.pem", f"smtpd_tls_key_file = {folder}/server.key",
            f"smtpd_tls_CAfile = {folder}/ca.pem", "smtpd_tls_ask_ccert = yes", "smtpd_sasl_auth_enable = yes",
            "smtpd_sasl_type = dovecot", f"smtpd_sasl_path = {folder}/auth",
            "smtpd_sasl_security_options = noanonymous",
        ]  # fmt: skip
        with running_smtpd(port, options):
            yield port


@pytest.fixture(scope="module")
def postfix_folder(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-policyd-"))  # smtpd is not root
    folder.chmod(0o755)
    for name in ("server.pem", "server.key", "ca.pem"):
        shutil.copy(site / name, folder / name)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def recorded_postfix(site: Path, postfix_folder: Path) -> Iterator[tuple[int, PolicydService]]:
    """Run a Postfix; yield its port and the policy service that it asks."""
    with policyd_service() as recorder, postfix(site, recorder.port, postfix_folder) as port:
        yield port, recorder


CASES = [
    ("none", None, None, False),
    ("no certificate", None, ssl.TLSVersion.TLSv1_3, False),
    ("good", "good", ssl.TLSVersion.TLSv1_3, False),
    ("bad", "bad", ssl.TLSVersion.TLSv1_3, False),
    ("good 1.2", "good", ssl.TLSVersion.TLSv1_2, False),
    ("auth", "good", ssl.TLSVersion.TLSv1_3, True),
]


CONF = """
Relay_Domains = ( "example.com" )
Policy = ( "filter:recorder" )
Filter "recorder" {{ Connect_To = "policyd:inet:127.0.0.1:{policyd}" Phases = ( {phases} ) }}
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


async def ours(site: Path, case: tuple[str | None, ssl.TLSVersion | None, bool]) -> list[Request]:
    certificate, version, auth = case
    (site / "passwords").touch(0o600)
    (site / "passwords").write_text("mary:secret\n")
    async with trio.open_nursery() as nursery:
        with policyd_service() as recorder:
            config = triosmtp.parse_config(CONF.format(policyd=recorder.port, phases=PHASES, site=site))
            server = await nursery.start(partial(triosmtp.serve, config, deliver=discard))
            port = server.addresses["127.0.0.1:0"][1]
            await trio.to_thread.run_sync(partial(dialogue, port, site, certificate, version, auth=auth))
            await server.aclose()
            return recorder.requests


async def discard(_message: triosmtp.Message) -> None:
    """Take a message."""


@pytest.mark.parametrize(("certificate", "version", "auth"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
async def test_requests_have_the_names_the_order_and_the_values_of_postfix(
    site: Path,
    recorded_postfix: tuple[int, PolicydService],
    certificate: str | None,
    version: ssl.TLSVersion | None,
    auth: bool,
) -> None:
    found = await ours(site, (certificate, version, auth))
    port, recorder = recorded_postfix
    recorder.requests.clear()
    await trio.to_thread.run_sync(partial(dialogue, port, site, certificate, version, auth=auth))
    theirs = list(recorder.requests)
    assert len(theirs) == len(found) == (8 if version else 7)
    for request, own in zip(theirs, found, strict=True):
        names = [name for name, _ in request if name not in NOT_SENT]
        assert [name for name, _ in own][: len(names)] == names == list(POSTFIX_ATTRIBUTES)
        assert {name for name, _ in own[len(names) :]} <= {*OWN_ATTRIBUTES, "triosmtp_listener"}
        values = dict(request)
        for name in NOT_SENT | IDS:
            values.pop(name, None)
        if values["protocol_state"] == "END-OF-MESSAGE":
            del values["size"]  # Postfix counts its Received
        assert {name: value for name, value in own if name in values} == values


async def test_instance_is_one_for_a_message_and_differs_between_messages(site: Path) -> None:
    found = [dict(request) for request in await ours(site, (None, None, False))]
    assert [each["protocol_state"] for each in found][1:] == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "END-OF-MESSAGE"]
    of_message = {each["instance"] for each in found[2:]}
    assert len(of_message) == 1
    assert not of_message & {each["instance"] for each in found[:2]}
    assert found[-1]["queue_id"]
