"""Every command in every state, over and over, at a server with the defaults: each session ends, and soon."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from triosmtp import Policy, Reject
from triosmtp.event import Disconnected, Refused
from triosmtp.policy import Session
from triosmtp.smtp import COMMANDS
from triosmtp.smtp.command import TRUSTED_COMMANDS
from triosmtp.testing import Authority, MemoryServer, ScriptedClient, open_memory_server

TIMES = 5000
BUDGET = 20 + 100 + 1
"""Max_Command_Errors, Max_Junk_Commands, and the reply that tells it."""
RECIPIENTS = 1000 + 100 * 100 + 1
"""Max_Recipients_Per_Message, what is refused for now behind it, and the reply that tells it."""
CONF = """
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}"
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
Auth_Failure_Delay = 0.001
Always_Allow = true
Allow_Plaintext_Auth = true
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
{more}
ESMTP_Listener {{ Listen ":25" {{
  SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS CHUNKING "AUTH PLAIN" )
  Peer "192.0.2.2" {{ SMTP_Extensions = ( CHUNKING XCLIENT XREMOTEIP XDUMPCONTEXT XSETCONTEXT ) }}
  Proxy_Protocol = ( "192.0.2.3" )
}} }}
"""
LINES = {
    "EHLO": "EHLO x",
    "HELO": "HELO x",
    "AUTH": "AUTH PLAIN AGEAYg==",
    "MAIL": "MAIL FROM:<a@example.org>",
    "RCPT": "RCPT TO:<b@example.com>",
    "BDAT": "BDAT 0",
    "XCLIENT": "XCLIENT ADDR=198.51.100.7",
    "XREMOTEIP": "XREMOTEIP 198.51.100.7",
    "XSETCONTEXT": "XSETCONTEXT a=b",
}
PLACES = {
    "START": [],
    "READY": ["EHLO x"],
    "MAIL": ["EHLO x", "MAIL FROM:<a@example.org>"],
    "RCPT_REFUSED": ["EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@elsewhere.example>"],
    "RCPT": ["EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>"],
}
BAD = ["", "NONSENSE", "MAIL FROM:<", "RCPT TO:<", "BDAT 0 LAST", "STARTTLS x", "AUTH PLAIN !", "EHLO \t", "x" * 3000]
NAMES = [row.name for row in (*COMMANDS.values(), *TRUSTED_COMMANDS.values()) if row.name != "QUIT"]


class Refusing(Policy):
    """Refuses one phase."""

    def __init__(self, phase: str, code: int) -> None:
        self.phase, self.code = phase, code

    def _judge(self, phase: str) -> None:
        if phase == self.phase:
            raise Reject(self.code, "5.7.1" if self.code >= 500 else "4.7.1", "No")

    async def validate_ehlo(self, session: Session, *_: object) -> None:
        self._judge("ehlo")

    async def validate_auth(self, session: Session, *_: object) -> None:
        self._judge("auth")

    async def validate_mailfrom(self, session: Session, *_: object) -> None:
        self._judge("mailfrom")

    async def validate_rcptto(self, session: Session, *_: object) -> None:
        self._judge("rcptto")

    async def validate_data(self, session: Session, *_: object) -> None:
        self._judge("data")

    async def validate_data_spool(self, session: Session, *_: object) -> None:
        self._judge("data_spool")


@pytest.fixture
def conf(tmp_path: Path) -> Callable[..., str]:
    Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    (tmp_path / "passwords").touch(0o600)
    return lambda more="": CONF.format(folder=tmp_path, more=more)


async def started(server: MemoryServer, kind: str, place: str) -> ScriptedClient:
    client = server.connect(peer={"trusted": "192.0.2.2", "proxied": "192.0.2.3"}.get(kind, "192.0.2.1"))
    if kind == "proxied":
        await client.send(b"PROXY TCP4 203.0.113.7 198.51.100.25 40000 25\r\n")
    assert (await client.read()).code == 220
    if kind == "tls":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        assert (await client.starttls(context)).code == 220
    if kind == "authenticated":
        await client.command("EHLO x")
        assert (await client.command("AUTH PLAIN AGEAYg==")).code == 235
    for line in PLACES[place]:
        await client.command(line)
    return client


async def says_for_ever(client: ScriptedClient, *lines: str) -> list[int]:
    """Send the lines in turn, wait for each reply, until the session ends; return the codes of the replies."""
    codes: list[int] = []
    try:
        with trio.fail_after(60):
            for number in range(TIMES):
                codes.append((await client.command(lines[number % len(lines)])).code)
                if codes[-1] == 354:
                    codes.append((await client.command("Subject: x\r\n\r\n.")).code)
    except (EOFError, trio.BrokenResourceError):
        return codes
    pytest.fail(f"{lines} go on after {len(codes)} replies: {codes[-10:]}")


async def floods(client: ScriptedClient, unit: bytes) -> list[int]:
    """Send it all at once, and read until the session ends."""
    with trio.fail_after(60):
        await client.send(unit)
        said = await client.read_eof()
    return [int(code) for code in re.findall(rb"^(\d{3}) .*$", said, re.MULTILINE)]


@pytest.mark.parametrize("kind", ["plain", "tls", "authenticated", "trusted", "proxied"])
@pytest.mark.parametrize("place", PLACES)
async def test_each_command(conf: Callable[..., str], place: str, kind: str) -> None:
    lines = [LINES.get(name, name) for name in NAMES] + BAD
    async with open_memory_server(conf()) as server:
        for line in lines:
            if line == LINES["RCPT"] and place in {"MAIL", "RCPT_REFUSED", "RCPT"}:
                continue  # taken, and then bounded by its own limits: see below
            if (line, kind) == ("STARTTLS", "tls") or line != "STARTTLS":
                codes = await says_for_ever(await started(server, kind, place), line)
                assert codes[-1] in {421, 501}, (line, codes[-3:])
                assert len(codes) <= BUDGET, (line, len(codes))
        ends = [event.reason for event in server.events if isinstance(event, Disconnected)]
        assert set(ends) <= {"protocol_error", "refused"}


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_pipelined_behind_a_refusal(conf: Callable[..., str], kind: str) -> None:
    async with open_memory_server(conf()) as server:
        for refused in ("MAIL FROM:<\r\n", "RCPT TO:<\r\n", "MAIL FROM:<a@example.org>\r\nRCPT TO:<c@d.example>\r\n"):
            for line in ("DATA", "RCPT TO:<", "BDAT 0 LAST", "BDAT 0", "NOOP", "NONSENSE"):
                client = await started(server, kind, "READY")
                codes = await floods(client, (refused + f"{line}\r\n" * TIMES).encode())
                assert codes[-1] == 421, line
                assert len(codes) <= BUDGET + 1000 + 2, (line, len(codes))


async def test_recipients_have_their_own_bounds(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf()) as server:
        for line, bound in ((LINES["RCPT"], RECIPIENTS), ("RCPT TO:<b@elsewhere.example>", 101)):
            client = await started(server, "plain", "MAIL")
            codes = await floods(client, f"{line}\r\n".encode() * 12_000)
            assert (len(codes), codes[-1]) == (bound, 421)


GROUPS = {
    "ehlo": ["EHLO x"],
    "auth": ["EHLO x", LINES["AUTH"]],
    "mailfrom": ["EHLO x", LINES["MAIL"]],
    "rcptto": [LINES["MAIL"], LINES["RCPT"], "DATA"],
    "data": [LINES["MAIL"], LINES["RCPT"], "DATA"],
    "data_spool": [LINES["MAIL"], LINES["RCPT"], "DATA"],
}


@pytest.mark.parametrize("code", [550, 451])
@pytest.mark.parametrize("phase", GROUPS)
async def test_a_policy_that_refuses(conf: Callable[..., str], phase: str, code: int) -> None:
    async with open_memory_server(conf(), policy=Refusing(phase, code)) as server:
        client = server.connect()
        await client.read()
        codes = await says_for_ever(client, *GROUPS[phase])
        told = [event for event in server.events if isinstance(event, Refused)]
    assert codes[-1] == 421
    assert len(codes) <= 3 * BUDGET
    assert told[-1].code == 421


@pytest.mark.parametrize("chunk", ["BDAT 0 LAST", "BDAT 0", "BDAT 2\r\n"])
async def test_chunks_that_policy_refuses(conf: Callable[..., str], chunk: str) -> None:
    async with open_memory_server(conf(), policy=Refusing("data", 550)) as server:
        client = await started(server, "plain", "READY")
        codes = await says_for_ever(client, LINES["MAIL"], LINES["RCPT"], chunk)
    assert codes.count(550) <= 21
    assert codes[-1] == 421


async def test_under_a_throttle(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf('Inbound_Throttle_Messages = "1/60"')) as server:
        client = await started(server, "plain", "MAIL")
        await client.command("RSET")
        codes = await says_for_ever(client, LINES["MAIL"])
    assert codes == [450] * 99 + [421]  # EHLO and RSET were junk as well


async def test_commands_pipelined_after_a_throttled_one_do_not_count(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf('Inbound_Throttle_Messages = "1/60"')) as server:
        client = await started(server, "plain", "MAIL")
        await client.command("RSET")
        group = [LINES["MAIL"], *[LINES["RCPT"]] * 10, "DATA"]
        for _ in range(90):
            await client.send("".join(f"{line}\r\n" for line in group).encode())
            assert [(await client.read()).code for _ in group] == [450] + [503] * 11


async def test_starttls_that_is_not_available(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf('TLS_Handshakes_Per_Peer = "1/60"')) as server:
        await started(server, "tls", "START")
        client = await started(server, "plain", "READY")
        codes = await says_for_ever(client, "STARTTLS")
    assert codes == [454] * 100 + [421]  # EHLO was junk as well


async def test_an_accepted_message_resets_the_count(conf: Callable[..., str]) -> None:
    async with open_memory_server(conf()) as server:
        client = await started(server, "plain", "READY")
        for _ in range(3):
            for _ in range(20):
                assert (await client.command("NONSENSE")).code == 500
            for _ in range(99):
                assert (await client.command("NOOP")).code == 250
            assert (await client.message("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\n")).code == 250
