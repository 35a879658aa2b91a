"""What the lines of the log tell: of a server's life, and of whom each line of a session is."""

import json
import re
import signal
from pathlib import Path

from serve_process import LineClient, environment_of, run_server

from triosmtp import Policy, Reject, Session
from triosmtp.event import Disconnected, PolicyFailed, PolicyFallback, Refused, SessionInfo, ShadowDiffered
from triosmtp.logs.event_fields import fields_of
from triosmtp.testing import open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
Workers = {workers}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""
STANZA = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "CHUNKING" )
ESMTP_Listener { Listen "198.51.100.1:25" { } }
"""


async def refusals(*lines: str, options: str = "") -> list[Refused]:
    async with open_memory_server(STANZA + options) as server:
        client = server.connect()
        await client.read()
        for line in lines:
            await client.command(line)
        return [event for event in server.events if isinstance(event, Refused)]


async def test_a_refusal_carries_sender_and_recipient_as_far_as_known() -> None:
    found = await refusals(
        "MAIL FROM:<early@example.net>",
        "EHLO client.example.net",
        "RCPT TO:<you@example.com>",
        "MAIL FROM:<>",
        "RCPT TO:<far@example.net>",
        "RCPT TO:<you@example.com>",
        "RCPT TO:<also@example.com>",
        "BOO",
        options="Require_EHLO = true",
    )
    told = [(event.phase, event.sender, event.recipients) for event in found]
    assert told == [
        ("command", None, ()),
        ("command", None, ()),
        ("rcptto", "", ("far@example.net",)),
        ("command", "", ()),
    ]
    sender = [fields_of(event).get("from", "unknown") for event in found]
    assert sender == ["unknown", "unknown", "", ""]


async def test_a_refused_sender_is_in_the_line() -> None:
    found = await refusals(
        "EHLO client.example.net",
        "MAIL FROM:<me@example.net>",
        "RSET",
        "MAIL FROM:<me@example.org>",
        options='Inbound_Throttle_Messages = "1/60"',
    )
    assert [(event.phase, event.sender, event.recipients) for event in found] == [("mailfrom", "me@example.org", ())]


async def test_a_refusal_of_the_data_carries_all_recipients() -> None:
    class NoData(Policy):
        async def validate_data(self, session: Session) -> None:
            raise Reject(550, "no", "5.7.1")

    for last in ("DATA", "BDAT 3 LAST\r\nx"):
        async with open_memory_server(STANZA, policy=NoData()) as server:
            client = server.connect()
            await client.read()
            recipients = ["RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>"]
            for line in ["EHLO c", "MAIL FROM:<me@example.net>", *recipients, last]:
                await client.command(line)
            (event,) = [event for event in server.events if isinstance(event, Refused)]
        assert (event.sender, event.recipients) == ("me@example.net", ("a@example.com", "b@example.com"))


def test_every_line_of_a_session_names_the_listen() -> None:
    session = SessionInfo(id="s", peer="p", listener=":25")
    fallback = {"phase": "ehlo", "group": "g", "fallback": "tempfail", "failure": "f"}
    shadow = {"phase": "ehlo", "group": "g", "name": "n", "answer": "a", "outcome": "o"}
    for event in (
        Disconnected(session=session, reason="quit", seconds=1.0, messages=0),
        PolicyFailed(session=session, phase="ehlo", policy="p", error="e"),
        PolicyFallback(session=session, **fallback),
        ShadowDiffered(session=session, **shadow),
        Refused(
            session=session,
            phase="ehlo",
            code=550,
            enhanced=None,
            text="t",
            decided_by="d",
            reason="r",
        ),
    ):
        assert fields_of(event)["listener"] == ":25", event


def lines(log: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines()]


def test_a_servers_life_is_in_its_log(tmp_path: Path) -> None:
    for workers in (1, 2):
        path = tmp_path / f"{workers}.conf"
        path.write_text(CONF.format(workers=workers))
        environment = environment_of(TRIOSMTP_LOG_FORMAT="json", STATE_DIRECTORY=str(tmp_path))
        with run_server("-c", str(path), log=tmp_path / f"log{workers}", environment=environment) as daemon:
            port = daemon.port()
            with LineClient(port) as client:
                client.read()
                assert client.ask("HELO client.example.net").startswith("250")
                client.ask("MAIL FROM:<me@example.net>")
                assert client.ask("RCPT TO:<you@example.org>").startswith("550")
                client.ask("RCPT TO:<you@example.com>")
                client.ask("DATA")
                assert client.ask("Subject: x\r\n\r\nx\r\n.").startswith("250")
                client.ask("QUIT")
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
        told = {str(line["event"]): line for line in lines(daemon.log)}
        serving, draining, ended = told["serving"], told["draining"], told["ended"]
        assert serving["listeners"] == [f"127.0.0.1:0 127.0.0.1 port {port}"]
        assert (serving["path"], serving["workers"]) == (str(path), workers)
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", str(serving["version"]))
        assert draining["grace"] == 30.0
        assert (ended["reason"], ended["sessions"], ended["messages"]) == ("drained", 1, 1)
        assert [name for name in told if name in {"serving", "draining", "ended"}] == ["serving", "draining", "ended"]
        accepted, refused, over = told["accepted"], told["refused"], told["disconnected"]
        assert accepted["helo"] == "client.example.net"
        assert (refused["from"], refused["to"]) == ("me@example.net", ["you@example.org"])
        assert {accepted["listener"], refused["listener"], over["listener"]} == {"127.0.0.1:0"}


def test_a_drain_that_is_cut_short_says_so(tmp_path: Path) -> None:
    path = tmp_path / "my.conf"
    path.write_text(CONF.format(workers=1))
    environment = environment_of(TRIOSMTP_LOG_FORMAT="json", STATE_DIRECTORY=str(tmp_path))
    with (
        run_server("-c", str(path), log=tmp_path / "log", environment=environment) as daemon,
        LineClient(daemon.port()) as client,
    ):
        client.read()
        client.ask("HELO c")
        client.ask("MAIL FROM:<me@example.net>")  # a transaction: the drain waits for it
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_log('"draining"')
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    told = {str(line["event"]): line for line in lines(daemon.log)}
    assert (told["draining"]["sessions"], told["ended"]["reason"]) == (1, "stopped")
