"""Client_Name, DNSBL_Sites and Greylist through a whole server, with a DNS server of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dns_server import DNSServer, dns_server
from milter_program import milter_program
from policyd_service import policyd_service

import triosmtp
from triosmtp.event import MessageAccepted, Refused
from triosmtp.logs.event_fields import LINES
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

RECORDS = {
    ("7.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org."],
    ("mail.example.org", "A"): ["192.0.2.7"],
    ("9.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org."],
    ("9.2.0.192.zen.example", "A"): ["127.0.0.4"],
    ("8.2.0.192.good.example", "A"): ["127.0.10.2"],
}


class Stage:
    def __init__(self, dns: DNSServer, server: MemoryServer) -> None:
        self.dns = dns
        self.server = server

    async def connect(self, address: str) -> ScriptedClient:
        client = self.server.connect(peer=address)
        await client.read()
        await client.command("EHLO client.example.org")
        return client

    async def rcpt(self, address: str, recipient: str = "you@example.com") -> str:
        client = await self.connect(address)
        await client.command("MAIL FROM:<me@example.org>")
        return str(await client.command(f"RCPT TO:<{recipient}>"))


@asynccontextmanager
async def stage(options: str) -> AsyncIterator[Stage]:
    async with dns_server(RECORDS) as dns:
        config = triosmtp.parse_config(f"""
            Relay_Domains = ( "example.com" )
            DNS_Servers = ( "127.0.0.1:{dns.port}" )
            {options}
            ESMTP_Listener {{ Listen ":25" {{ }} }}
        """)
        async with open_memory_server(config) as server:
            yield Stage(dns, server)


BODY = b"Subject: x\r\n\r\nhello\r\n"


async def test_the_name_of_the_client_is_in_received_and_variables() -> None:
    async with stage("Client_Name = true") as here:
        for address, name, reverse in (
            ("192.0.2.7", "mail.example.org", "mail.example.org"),
            ("192.0.2.9", "unknown", "mail.example.org"),
            ("192.0.2.1", "unknown", "unknown"),
        ):
            client = await here.connect(address)
            assert str(await client.message("me@example.org", ["you@example.com"], BODY)).startswith("250")
            message = here.server.messages[-1]
            assert message.variables["client_name"] == name
            assert message.variables["reverse_client_name"] == reverse
            accepted = next(event for event in reversed(here.server.events) if isinstance(event, MessageAccepted))
            assert LINES[MessageAccepted][2](accepted)["client_name"] == name
            shown = "" if name == "unknown" else f"{name} "
            assert f"from client.example.org ({shown}[{address}])" in " ".join(message.trace.decode().split())
        assert here.dns.asked["7.2.0.192.in-addr.arpa", "PTR"] == 1


@pytest.mark.parametrize(
    ("address", "name", "reverse", "resolved"),
    [
        ("192.0.2.7", "mail.example.org", "mail.example.org", "OK"),
        ("192.0.2.9", "unknown", "mail.example.org", "FORGED"),
        ("192.0.2.1", "unknown", "unknown", "FAIL"),
    ],
)
async def test_filters_see_the_name_of_the_client_from_the_first_step(
    address: str, name: str, reverse: str, resolved: str
) -> None:
    with milter_program() as milter, policyd_service("REJECT") as service:
        milter.symbols = [(0, "{client_name} {client_ptr} {client_resolve}")]
        async with stage(f"""
            Client_Name = true
            Policy = ( "{milter.address}" "filter:first" )
            Filter "first" {{ Connect_To = "{service.address}" Phases = ( connect ) }}
        """) as here:
            client = here.server.connect(peer=address)
            assert str(await client.read()).endswith(f"<{name}[{address}]>: Client host rejected: Access denied")
        found = dict(service.requests[0])
        assert (found["client_name"], found["reverse_client_name"]) == (name, reverse)
        assert dict(milter.last.macros())["C"] == {
            "{client_name}": name, "{client_ptr}": reverse, "{client_resolve}": resolved,
        }  # fmt: skip


async def test_nothing_is_asked_by_default() -> None:
    async with stage("") as here:
        assert (await here.rcpt("192.0.2.9")).startswith("250")
        assert not here.dns.asked


async def test_a_listed_client_is_refused_at_rcpt_and_asked_about_once() -> None:
    async with stage('DNSBL_Sites = ( "zen.example=127.0.0.[2..11]*3" ) DNSBL_Threshold = 3') as here:
        client = await here.connect("192.0.2.9")
        await client.command("MAIL FROM:<me@example.org>")
        for recipient in ("you@example.com", "other@example.com"):
            reply = str(await client.command(f"RCPT TO:<{recipient}>"))
            assert reply == "554 5.7.1 Service unavailable; client [192.0.2.9] blocked using zen.example"
        assert str(await client.command("RCPT TO:<postmaster@example.com>")).startswith("250")
        assert str(await client.command("RCPT TO:<Abuse@example.com>")).startswith("250")
        assert here.dns.asked["9.2.0.192.zen.example", "A"] == 1
        refused = next(event for event in here.server.events if isinstance(event, Refused))
        assert (refused.decided_by, refused.reason) == ("DNSBL_Sites", "score 3")
        assert (await here.rcpt("192.0.2.1")).startswith("250")


async def test_a_threshold_above_the_score_refuses_nobody_and_0_never_does() -> None:
    for threshold in (2, 0):
        async with stage(f'DNSBL_Sites = ( "zen.example" ) DNSBL_Threshold = {threshold}') as here:
            assert (await here.rcpt("192.0.2.9")).startswith("250")


async def test_relay_hosts_and_local_clients_are_not_asked_about() -> None:
    options = 'DNSBL_Sites = ( "zen.example" ) Relay_Hosts = ( "192.0.2.9" ) Greylist = true'
    async with stage(options) as here:
        assert (await here.rcpt("192.0.2.9")).startswith("250")
        assert (await here.rcpt("127.0.0.1")).startswith("250")
        assert not here.dns.asked


async def test_lists_look_at_the_client_that_a_trusted_peer_announces() -> None:
    options = 'SMTP_Extensions = ( "XCLIENT" ) DNSBL_Sites = ( "zen.example" ) Client_Name = true'
    async with stage(options) as here:
        client = await here.connect("192.0.2.1")
        await client.command("XCLIENT ADDR=192.0.2.9")
        await client.command("EHLO client.example.org")
        await client.command("MAIL FROM:<me@example.org>")
        reply = str(await client.command("RCPT TO:<you@example.com>"))
        assert "client [192.0.2.9] blocked" in reply
        assert here.dns.asked["9.2.0.192.in-addr.arpa", "PTR"] == 1


async def test_lists_and_the_name_look_at_the_client_behind_a_proxy() -> None:
    options = 'Proxy_Protocol = ( "192.0.2.1" ) DNSBL_Sites = ( "zen.example" ) Client_Name = true'
    async with stage(options) as here:
        client = here.server.connect(peer="192.0.2.1")
        await client.send(b"PROXY TCP4 192.0.2.9 192.0.2.2 1024 25\r\n")
        await client.read()
        await client.command("EHLO client.example.org")
        await client.command("MAIL FROM:<me@example.org>")
        assert "client [192.0.2.9] blocked" in str(await client.command("RCPT TO:<you@example.com>"))
        assert {name for name, _ in here.dns.asked} == {
            "9.2.0.192.zen.example", "9.2.0.192.in-addr.arpa", "mail.example.org",
        }  # fmt: skip


async def test_greylisting(tmp_path: Path) -> None:
    options = f'Greylist = true Greylist_Delay = 300 Greylist_File = "{tmp_path}/greylist.sqlite"'
    async with stage(options) as here:
        assert await here.rcpt("192.0.2.1") == "450 4.7.1 Greylisted, try again in 300 seconds"
        assert (await here.rcpt("192.0.2.1", "postmaster@example.com")).startswith("250")
        assert (await here.rcpt("192.0.2.1", "you@elsewhere.example")).startswith("550"), "relaying is refused for good"
        refused = [event.decided_by for event in here.server.events if isinstance(event, Refused)]
        assert refused[0] == "Greylist"


async def test_a_client_on_a_list_of_good_clients_does_not_wait(tmp_path: Path) -> None:
    options = (
        f'DNSBL_Sites = ( "good.example=127.0.[0..255].[1..3]*-4" ) DNSBL_Allow_Threshold = -4 '
        f'Greylist = true Greylist_File = "{tmp_path}/greylist.sqlite"'
    )
    async with stage(options) as here:
        assert (await here.rcpt("192.0.2.8")).startswith("250")
        assert (await here.rcpt("192.0.2.1")).startswith("450")


async def test_a_policy_that_is_done_waives_lists_and_greylisting(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import triosmtp\n"
        "class Done(triosmtp.Policy):\n"
        "    async def validate_rcptto(self, session, recipient, parameters):\n"
        "        return triosmtp.DONE\n"
    )
    (tmp_path / "e.conf").write_text(f"""
        Relay_Domains = ( "example.com" )
        Policy = ( "python:mine:Done" )
        DNSBL_Sites = ( "zen.example" )
        Greylist = true
        Greylist_File = "{tmp_path}/greylist.sqlite"
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """)
    async with open_memory_server(triosmtp.load_config(str(tmp_path / "e.conf"))) as server:
        client = server.connect(peer="192.0.2.9")
        await client.read()
        await client.command("EHLO client.example.org")
        await client.command("MAIL FROM:<me@example.org>")
        assert str(await client.command("RCPT TO:<you@example.com>")).startswith("250")
