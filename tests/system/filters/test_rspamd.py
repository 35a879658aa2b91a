"""Debian's rspamd, asked by HTTP about whole messages."""

import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, field
from auth_site import serving
from filter_site import filter_folder, message
from filter_site import serving as serving_daemon
from rspamd_server import Rspamd, rspamd_server
from serve_process import COMMAND

from triosmtp import Message, parse_config
from triosmtp.event import PolicyFallback
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
ADDED = (b"X-Told", b"X-Spamd-Result")


@pytest.fixture(scope="module")
def rspamd() -> Iterator[Rspamd]:
    with rspamd_server() as running:
        yield running


@define
class Site:
    server: MemoryServer
    messages: list[Message] = field(factory=list)
    bodies: list[bytes] = field(factory=list)

    async def take(self, message: Message) -> None:
        self.messages.append(message)
        self.bodies.append(b"".join([chunk async for chunk in message.body.chunks()]))

    async def client(self) -> ScriptedClient:
        client = self.server.connect()
        await client.read()
        await client.command("EHLO client.example.org")
        return client

    async def send(self, text: str | bytes, recipients: int = 1) -> str:
        """Send a message; return the reply to it."""
        client = await self.client()
        await client.command("MAIL FROM:<a@example.org>")
        await client.command("RCPT TO:<you@example.com>")
        for number in range(1, recipients):
            await client.command(f"RCPT TO:<you{number}@example.com>")
        await client.command("DATA")
        await client.send(text if isinstance(text, bytes) else text.encode())
        reply = str(await client.command("\r\n."))
        await client.aclose()
        return reply

    @property
    def fallbacks(self) -> list[str]:
        return [event.failure for event in self.server.events if isinstance(event, PolicyFallback)]


@asynccontextmanager
async def site(rspamd: Rspamd, more: str = "", policy: str = "") -> AsyncIterator[Site]:
    policy = policy or f"rspamd:{rspamd.url}"
    config = parse_config(f"""
        Relay_Domains = ( "example.com" )
        Spool_Directory = "{rspamd.folder}"
        Policy = ( "{policy}" )
        {more}
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """)
    here: list[Site] = []

    async def take(message: Message) -> None:
        await here[0].take(message)

    async with open_memory_server(config, deliver=take) as server:
        here.append(Site(server))
        yield here[0]


def wants(what: str, *fields: str) -> str:
    return "\r\n".join([f"X-Wants: {what}", *fields, "Subject: hello", "", "text"])


async def test_each_action_is_its_decision(rspamd: Rspamd) -> None:
    async with site(rspamd) as here:
        assert (await here.send(wants("nothing"))).startswith("250")
        assert (await here.send(wants("greylist"))).startswith("250")
        assert await here.send(wants("soft reject")) == "451 4.7.1 Try again later"
        assert await here.send(wants("soft reject text")) == "451 4.5.6 Come back"
        assert await here.send(f"Subject: x\r\n\r\n{GTUBE}") == "554 5.7.1 Gtube pattern"
        assert await here.send("Subject: the Lottery\r\n\r\nx") == "554 5.7.1 Spam message rejected"
        assert await here.send(wants("quarantine")) == "451 4.3.5 Server configuration error"
        assert await here.send(wants("odd")) == "451 4.3.5 Server configuration error"
        assert len(here.messages) == 2
        assert (await here.send(wants("discard"))).startswith("250")
        assert len(here.messages) == 2
        assert (await here.send(f"Subject: x\r\n\r\n{GTUBE.replace('X', 'Y', 1)}")).startswith("250")
        assert (await here.send(wants("rewrite subject"))).startswith("250")
        spam, rewritten = here.bodies[2:]
        assert spam.count(b"X-Spam: Yes\r\n") == 1
        assert b"Subject: *** SPAM *** hello\r\n" in rewritten
        assert rewritten.count(b"Subject:") == 1
        assert not here.fallbacks
        assert here.messages[0].message_variables["rspamd_action"] == "no action"
        assert here.messages[0].message_variables["rspamd_score"] == "0.00/15.00"


async def test_header_fields_are_added_and_removed_as_it_says_and_the_rest_stays(rspamd: Rspamd) -> None:
    body = b"line\r\n" * 50_000
    header = b"X-Wants: top twice remove\r\nX-Gone: 1\r\nX-Last: kept\r\nx-gone: 2\r\nSubject: hello\r\nX-Last: 3\r\n"
    async with site(rspamd) as here:
        assert (await here.send(header + b"\r\n" + body)).startswith("250")
        head, _, rest = here.bodies[0].partition(b"\r\n\r\n")
        assert rest == body + b"\r\n"
        fields = [line for line in head.split(b"\r\n") if not line.startswith(ADDED) and line[:1] not in b"\t "]
        assert sorted(fields[:2]) == [b"X-Top: first", b"X-Twice: a"]
        assert fields[2:] == [b"X-Wants: top twice remove", b"X-Last: kept", b"Subject: hello", b"X-Twice: b"]
        assert f"size={len(header) + 2 + len(body) + 2} id={here.messages[0].id}".encode() in head


async def test_recipients_change_by_the_rules_of_the_server(rspamd: Rspamd) -> None:
    async with site(rspamd) as here:
        assert (await here.send(wants("rcpt"))).startswith("250")
        assert [str(each) for each in here.messages[0].envelope.recipients] == ["other@example.com"]
        assert await here.send(wants("foreign")) == "451 4.3.5 Server configuration error"
        assert len(here.messages) == 1


async def test_quarantine_goes_to_the_delivery_that_hold_to_names(rspamd: Rspamd, tmp_path: Path) -> None:
    scope = f'Filter "spam" {{ Connect_To = "rspamd:{rspamd.url}" Hold_To = "held" }}'
    held = f'Delivery "held" {{ Deliver_To = "maildir:{tmp_path}/held" }}'
    async with site(rspamd, f"{held} {scope}", "filter:spam") as here:
        assert (await here.send(wants("quarantine"))).startswith("250")
        assert not here.messages
        [file] = (tmp_path / "held" / "new").iterdir()
        assert b"X-Told: " in file.read_bytes()


async def test_a_filter_scope_has_settings_and_rspamd_has_all_recipients(rspamd: Rspamd) -> None:
    scope = f'Filter "spam" {{ Connect_To = "rspamd:{rspamd.url}/" Settings_ID = "lenient" Policy_Timeout = 20 }}'
    async with site(rspamd, f"Max_Recipients_Per_Message = 1000 {scope}", "filter:spam") as here:
        assert (await here.send("Subject: the lottery\r\n\r\nx", recipients=600)).startswith("250")
        assert b"rcpt=600" in here.bodies[0]


async def test_rspamd_sees_what_tls_proved_of_the_client(rspamd: Rspamd, tmp_path: Path) -> None:
    more = f'Policy = ( "rspamd:{rspamd.url}" ) Relay_Domains = ( "example.com" )'
    found = []
    async with serving(tmp_path, more, "AUTH EXTERNAL", store="") as here:
        for certificate in (None, "", "stranger", "client"):
            client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", here.starttls))
            await client.read()
            await client.command("EHLO client.example.org")
            if certificate is not None:
                await client.starttls(here.context(certificate), "127.0.0.1")
                await client.command("EHLO client.example.org")
            if certificate == "client":
                assert (await client.command("AUTH EXTERNAL =")).code == 235
            for command in ("MAIL FROM:<a@example.org>", "RCPT TO:<you@example.com>", "DATA"):
                await client.command(command)
            assert (await client.command("Subject: x\r\n\r\nx\r\n.")).code == 250
            head = here.messages[-1].body.head
            told = next(line for line in head.split(b"\r\n") if line.startswith(b"X-Told: ")).decode()
            found.append(dict(each.split("=", 1) for each in told[8:].split("; ")[:7]))
            await client.aclose()
    plain, tls, foreign, good = found
    assert plain["TLS-Version"] == plain["TLS-Client-Verified"] == "-"
    assert (tls["TLS-Version"], tls["TLS-Client-Verified"], tls["User"]) == ("TLSv1.3", "no", "-")
    assert (foreign["TLS-Client-Verified"], foreign["TLS-Cert-Issuer"], foreign["User"]) == ("no", "-", "-")
    assert foreign["TLS-Client-Verify-Error"] != "-"
    assert (good["TLS-Client-Verified"], good["User"], good["MTA-Tag"]) == ("yes", "client.example", "triosmtp")
    assert good["TLS-Cert-Issuer"] != "-"
    assert good["TLS-Client-Cert-Sans"] == "dns:client.example"


async def test_a_killed_or_stopped_rspamd_is_the_fallback_and_is_asked_again_when_it_is_back() -> None:
    with rspamd_server() as rspamd:
        async with site(rspamd, "Policy_Timeout = 0.5") as here:
            assert (await here.send(wants("nothing"))).startswith("250")
            rspamd.kill()
            assert (await here.send(wants("nothing"))).startswith("451 4.3.0 Local error")
            await trio.to_thread.run_sync(rspamd.start)
            assert (await here.send(wants("nothing"))).startswith("250")
            rspamd.send(signal.SIGSTOP)
            assert (await here.send(wants("nothing"))).startswith("451 4.3.0 Local error")
            rspamd.send(signal.SIGCONT)
            assert await here.send(f"Subject: x\r\n\r\n{GTUBE}") == "554 5.7.1 Gtube pattern"
            connect, timed_out = here.fallbacks
            assert "cannot connect" in connect
            assert timed_out == "timed out after 0.5 s"
            assert [name for name, _ in here.server.service.hub.filters.latencies().items()] == [f"rspamd:{rspamd.url}"]
        async with site(rspamd, "Policy_Timeout = 20") as here:
            replies: list[str] = []

            async def send() -> None:
                replies.append(await here.send(wants("nothing")))

            rspamd.send(signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked(0.1)  # the request waits for its answer
                assert not replies
                rspamd.kill()
            assert replies[0].startswith("451 4.3.0 Local error")
            assert not here.messages
            assert "cannot connect" in here.fallbacks[0]  # at the second attempt
        async with site(rspamd, 'Policy_Fallback = "continue"') as here:
            assert (await here.send(wants("nothing"))).startswith("250")
            assert here.bodies == [wants("nothing").encode() + b"\r\n"]


def test_with_workers_the_figures_are_those_of_the_whole_server(rspamd: Rspamd) -> None:
    with filter_folder() as folder, serving_daemon(folder, f'Workers = 2 Policy = "rspamd:{rspamd.url}"') as (_, port):
        replies = [message(port, folder, certificate) for certificate in (None, "", "bad", "good")]
        replies.append(message(port, folder, body=f"Subject: x\r\n\r\n{GTUBE}\r\n".encode()))
        assert [reply[:3] for reply in replies] == ["250"] * 4 + ["554"]
        console = [*COMMAND, "console", "--control", str(folder / "control"), "show", "policy"]
        shown = subprocess.run(console, check=True, capture_output=True, text=True, cwd=folder).stdout
        assert f"group rspamd:{rspamd.url}: " in shown
        assert "at data_spool; asked 5, answered 5" in shown
        mail = sorted(file.read_text() for file in (folder / "mail" / "new").iterdir())
        verified = sorted(re.findall(r"TLS-Client-Verified=(\S+);", "".join(mail)))
        assert verified == ["-", "no", "no", "yes"]
