"""A message that was refused, or a part of it, leaves nothing for the next one: no DISCARD, no DONE, no variable."""

from pathlib import Path

import pytest
import trio
from esmtp_process import esmtp_server

from triosmtp import Delivery, Message, Policy
from triosmtp.event import MessageAccepted
from triosmtp.testing import ScriptedClient, open_memory_server

POLICY = '''
from triosmtp import DISCARD, DONE, Policy, Reject

class Marks(Policy):
    """Does to a message from evil@ what its sender's domain says; nothing to others."""

    def mark(self, session, phase):
        if session.message_variables.get("mailfrom_localpart") != "evil":
            return None
        session.message_variables["evil"] = phase
        session.add_header("X-Evil", phase)
        at, what = session.message_variables["mailfrom_domain"].split(".")[:2]
        if at != phase:
            return None
        if what == "refuse":
            raise Reject(550, "5.7.1", "No")
        return DISCARD if what == "discard" else DONE

    async def validate_mailfrom(self, session, sender, parameters):
        return self.mark(session, "mailfrom")

    async def validate_rcptto(self, session, recipient, parameters):
        return self.mark(session, "rcptto")

    async def validate_data(self, session):
        return self.mark(session, "data")

    async def validate_data_spool(self, session, message):
        return self.mark(session, "data-spool")
'''
HONEST = b"Subject: honest\r\n\r\nx\r\n"
PHASES = ("mailfrom", "rcptto", "data", "data-spool")
WAYS = ("DATA", "BDAT", "BDAT LAST")
CONF = """
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}"
Max_Command_Errors = 0
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING ) }} }}
"""


def marks() -> Policy:
    names: dict[str, type[Policy]] = {}
    exec(POLICY, names)
    return names["Marks"]()


async def evil(client: ScriptedClient, domain: str, way: str, body: bytes) -> int:
    """Send a message from evil@ as far as it is accepted; return the last code."""
    code = 0
    for line in (f"MAIL FROM:<evil@{domain}>", "RCPT TO:<b@example.com>"):
        code = (await client.command(line)).code
        if code != 250:
            return code
    if way == "DATA":
        code = (await client.command("DATA")).code
        if code == 354:
            await client.send(body + b".\r\n")
            code = (await client.read()).code
        return code
    last = b"" if way == "BDAT" else b" LAST"
    await client.send(b"BDAT %d%s\r\n%s" % (len(body), last, body))
    return (await client.read()).code


async def go_on(client: ScriptedClient) -> None:
    """Check that commands without MAIL are out of sequence; then send a normal message."""
    for line in ("DATA", "BDAT 0 LAST", "RCPT TO:<b@example.com>"):
        assert (await client.command(line)).code == 503
    assert (await client.message("honest@example.org", ["b@example.com"], HONEST)).code == 250


DOMAINS = [f"{phase}.{what}.example" for what in ("refuse", "discard", "done") for phase in PHASES]


def _is_open(domain: str, way: str, code: int) -> bool:
    """Return whether the transaction goes on: RSET has to end it."""
    if code == 250:
        return way == "BDAT"
    return domain.startswith("rcptto.refuse") or (domain.startswith("data.refuse") and way == "DATA")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("domain", DOMAINS)
async def test_in_memory(tmp_path: Path, domain: str, way: str) -> None:
    refused = "refuse" in domain
    async with open_memory_server(CONF.format(folder=tmp_path), policy=marks()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        for body in (b"Subject: evil\r\n\r\nx\r\n", b"Subject: evil\r\n\r\na\nb\r\n"):
            code = await evil(client, domain, way, body)
            assert (code == 550) == (b"a\n" in body or (refused and not (way == "BDAT" and "spool" in domain)))
            if _is_open(domain, way, code):
                await client.command("RSET")
            await go_on(client)
        await client.command("QUIT")
        await client.read_eof()
    honest = [message for message in server.messages if message.sender == "honest@example.org"]
    assert [message.body for message in honest] == [HONEST, HONEST]
    assert all("evil" not in message.message_variables for message in honest)
    assert all(b"X-Evil" not in message.trace for message in honest)
    accepted = [event for event in server.events if isinstance(event, MessageAccepted)]
    assert [event.discarded_by for event in accepted if event.sender == "honest@example.org"] == ["", ""]


@pytest.mark.parametrize("workers", [0, 2])
async def test_in_processes(tmp_path: Path, workers: int) -> None:
    more = f'Policy = ( "python:rules:Marks" ) Max_Command_Errors = 0 {f"Workers = {workers}" if workers else ""}'
    with esmtp_server(tmp_path, more, policy=POLICY) as server:
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", server.port))
        await client.read()
        await client.command("EHLO x")
        for domain in DOMAINS:
            for way in WAYS:
                await evil(client, domain, way, b"Subject: evil\r\n\r\na\nb\r\n")
                await client.command("RSET")
                await go_on(client)
        await client.command("QUIT")
        await client.aclose()
        stored = [path.read_bytes() for path in (tmp_path / "Maildir" / "new").iterdir()]
    assert len(stored) == len(DOMAINS) * len(WAYS)
    assert all(b"evil" not in text.lower() and text.endswith(b"Subject: honest\n\nx\n") for text in stored)


# ENVID and ORCPT


class Honouring(Delivery):
    honours = frozenset({"DSN"})

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def deliver(self, message: Message) -> None:
        self.seen.append((message.envelope.parameters, [each.parameters for each in message.envelope.recipients]))


BAD_MAIL = ["ENVID=", "ENVID", "ENVID=+00", "ENVID=a+00b", "ENVID=+0A", "ENVID=+0D+0A", "ENVID=+7F", "ENVID=+FF"]
BAD_MAIL += ["ENVID=+0a", "ENVID=+", "ENVID=+4", "ENVID=a=b", "ENVID=" + "x" * 101, "ENVID=\xfc", "RET=+00"]
BAD_RCPT = ["ORCPT=", "ORCPT", "ORCPT=rfc822", "ORCPT=rfc822;", "ORCPT=;a", "ORCPT=rfc822;+00", "ORCPT=rfc822;a+00@b"]
BAD_RCPT += ["ORCPT=rfc822;a+0D+0Ab", "ORCPT=utf-8;\\x{0}", "ORCPT=utf-8;\\x{00}", "ORCPT=utf-8;+00", "NOTIFY=+00"]


async def test_octets_that_no_report_can_hold() -> None:
    delivery = Honouring()
    config = 'Relay_Domains = ( "example.com" ) Max_Command_Errors = 0 '
    config += 'ESMTP_Listener { Listen ":25" { SMTP_Extensions = ( ENHANCEDSTATUSCODES DSN ) } }'
    async with open_memory_server(config, deliver=delivery) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        for parameter in BAD_MAIL:
            assert (await client.command(f"MAIL FROM:<a@example.org> {parameter}")).code == 501, parameter
            assert (await client.command("DATA")).code == 503
        assert (await client.command("MAIL FROM:<a@example.org> ENVID=a+2Bb+20c")).code == 250
        for parameter in BAD_RCPT:
            assert (await client.command(f"RCPT TO:<b@example.com> {parameter}")).code == 501, parameter
            assert (await client.command("DATA")).code == 554
        assert (await client.command("RCPT TO:<b@example.com> ORCPT=rfc822;b+2Bc@example.com")).code == 250
        assert (await client.command("DATA")).code == 354
        assert (await client.command(HONEST.decode() + ".")).code == 250
    assert delivery.seen == [({"ENVID": "a+2Bb+20c"}, [{"ORCPT": "rfc822;b+2Bc@example.com"}])]
