"""Pass-through to Postfix: TLS with a verified name, its answers, its extensions, what it logs about the client."""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import frozen
from listen_server import connect, serving
from private_postfix import Postfix, running_smtpd
from serve_process import free_port

from triosmtp import Server
from triosmtp.event import MessageAccepted, ServerEvent
from triosmtp.logs.event_fields import fields_of
from triosmtp.testing import Authority, ScriptedClient

SENDER = "joe@example.org"
BODY = b"From: joe@example.org\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nSubject: test\r\n\r\n"


@frozen
class Site:
    """A Postfix at a port, its authority, and a folder."""

    port: int
    postfix: Postfix
    folder: Path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="triosmtp-hop-"))
    folder.chmod(0o755)
    authority = Authority.create("Hop Authority")
    certificate, key = authority.issue("hop.example.org", dns=["hop.example.org"], usage=["server"]).write(
        folder, "hop"
    )
    (folder / "authority.pem").write_bytes(authority.certificate_pem)
    (folder / "recipients").write_text("nobody@example.com 550 5.1.1 No such user\nlater@example.com 450 4.2.1 X\n")
    (folder / "headers").write_text("/^Subject: spam/ REJECT 5.7.1 No spam here\n")
    options = [
        f"smtpd_tls_cert_file = {certificate}",
        f"smtpd_tls_key_file = {key}",
        "smtpd_tls_security_level = may",
        "smtpd_relay_restrictions = permit_mynetworks, reject",
        f"smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/recipients, permit_mynetworks",
        f"header_checks = regexp:{folder}/headers",
        "mynetworks = 127.0.0.0/8, 192.0.2.0/24",
        "smtpd_authorized_xforward_hosts = 127.0.0.0/8",
        "smtpd_authorized_xclient_hosts = 127.0.0.0/8",
        "message_size_limit = 20000",
        "smtpd_delay_reject = yes",
    ]
    port = free_port()
    try:
        with running_smtpd(port, options) as postfix:
            yield Site(port, postfix, folder)
    finally:
        shutil.rmtree(folder)


TLS = 'TLS = "required" TLS_Name = "hop.example.org" TLS_CA = "{folder}/authority.pem"'


@asynccontextmanager
async def session(site: Site, delivery: str = TLS, options: str = "") -> AsyncIterator[tuple[Server, ScriptedClient]]:
    text = f"""
Relay_Domains = ( "example.com" )
Deliver_To = "hop"
Delivery "hop" {{ Deliver_To = "smtp://127.0.0.1:{site.port}" {delivery.format(folder=site.folder)} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ Proxy_Protocol = ( "127.0.0.0/8" ) {options} }} }}
"""
    async with serving(text, deliver=None) as server:
        client = await connect(server)
        await client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4242 25\r\n")
        assert (await client.read()).code == 220
        await client.command("EHLO client.example.org")
        yield server, client


async def log_line(site: Site, pattern: str) -> str:
    return await trio.to_thread.run_sync(site.postfix.wait_for, pattern)


async def test_accepted_over_tls_with_a_verified_name(site: Site) -> None:
    events: list[ServerEvent] = []
    async with session(site) as (server, client):
        server.service.observers.add(events.append)
        assert (await client.message(SENDER, ["tls@example.com"], BODY)).code == 250
    [accepted] = [fields_of(each) for each in events if isinstance(each, MessageAccepted)]
    answers = accepted["answers"]
    assert isinstance(answers, tuple | list)
    [answer] = answers
    queued = re.fullmatch(r"hop: 250 2\.0\.0 Ok: queued as ([0-9A-Za-z]+)", answer)
    assert queued, answer
    line = await log_line(site, r"client=.*")
    assert queued[1] in line, "the log of triosmtp names the message there"
    assert "192.0.2.7" in line, "XFORWARD told it the client"
    assert "status=sent" in await log_line(site, r"to=<tls@example.com>.*status=")


async def test_its_answers_are_the_clients(site: Site) -> None:
    async with session(site) as (_, client):
        answer = await client.message(SENDER, ["nobody@example.com"], BODY)
        assert (answer.code, answer.text[:6]) == (550, "5.1.1 ")
        assert "No such user" in answer.text
        answer = await client.command("RCPT TO:<later@example.com>")
        assert (answer.code, answer.text[:6]) == (450, "4.2.1 ")
        await client.command("RSET")
        answer = await client.message(SENDER, ["a@example.com"], BODY.replace(b"test", b"spam"))
        assert (answer.code, answer.text) == (550, "5.7.1 No spam here")
        answer = await client.message(SENDER, ["a@example.com"], BODY + b"x" * 90 + b"\r\n" * 15_000)
        assert (answer.code, answer.text[:6]) == (552, "5.3.4 ")
        await client.command(f"MAIL FROM:<{SENDER}> SIZE=20001")
        answer = await client.command("RCPT TO:<a@example.com>")
        assert (answer.code, answer.text[:6]) == (552, "5.3.4 "), "known at RCPT"


@pytest.mark.parametrize(
    "delivery",
    [
        TLS.replace("hop.example.org", "other.example.org"),
        'TLS = "required" TLS_Name = "hop.example.org"',
        TLS + ' TLS_Fingerprints = ( "sha256:' + "00" * 32 + '" )',
        TLS + ' Auth_User = "me" Auth_Password_File = "{folder}/password"',
    ],
    ids=["name", "authority", "fingerprint", "auth"],
)
async def test_a_misconfigured_hop_never_bounces_mail(site: Site, delivery: str) -> None:
    (site.folder / "password").write_text("wrong\n")
    (site.folder / "password").chmod(0o600)
    async with session(site, delivery) as (_, client):
        answer = await client.message(SENDER, ["a@example.com"], BODY)
    assert answer.code == 451
    assert answer.text == "4.3.0 Temporary failure, please try again later"


async def test_dsn_is_offered_when_the_hop_has_declared_it(site: Site) -> None:
    options = 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "DSN" "REQUIRETLS" "MT-PRIORITY" )'
    async with session(site, options=options) as (server, client):
        await client.message(SENDER, ["a@example.com"], BODY)  # at the latest now there was an EHLO
        second = await connect(server)
        await second.send(b"PROXY TCP4 192.0.2.8 192.0.2.1 4242 25\r\n")
        await second.read()
        extensions = (await second.command("EHLO client.example.org")).lines
        assert "DSN" in extensions
        assert not {"REQUIRETLS", "MT-PRIORITY"} & set(extensions), "it declares neither"
        assert (await second.command(f"MAIL FROM:<{SENDER}> RET=HDRS ENVID=x42")).code == 250
        assert (await second.command("RCPT TO:<dsn@example.com> NOTIFY=NEVER")).code == 250
        assert (await second.command("DATA")).code == 354
        await second.send(BODY + b".\r\n")
        assert (await second.read()).code == 250


async def test_xclient_makes_it_see_the_client(site: Site) -> None:
    async with session(site, TLS + " XCLIENT = true") as (_, client):
        assert (await client.message(SENDER, ["x1@example.com"], BODY)).code == 250
        assert (await client.message(SENDER, ["x2@example.com"], BODY)).code == 250
    for name in ("x1", "x2"):
        line = await log_line(site, rf"to=<{name}@example.com>.*status=")
        queued = re.search(r": ([0-9A-F]+): ", line)
        assert queued is not None
        assert re.search(rf"{queued[1]}: client=\S*\[192\.0\.2\.7\]", site.postfix.log)


async def test_the_same_connection_serves_many_messages(site: Site) -> None:
    async with session(site) as (_, client):
        for number in range(5):
            assert (await client.message(SENDER, [f"many{number}@example.com"], BODY)).code == 250
    await log_line(site, r"to=<many4@example.com>.*status=")
    assert len(re.findall(r"postfix/smtpd\[\d+\]: connect from", site.postfix.log)) < 40
