"""A milter in C with Sendmail's libmilter, which uses every action."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filter_session import begun
from mail_client import need
from milter_daemons import Daemon

from triosmtp.event import MessageAccepted
from triosmtp.testing import open_memory_server

SOURCE = Path(__file__).parents[2] / "harness" / "every_action.c"
BODY = b"Subject: x\r\nX-Remove: stays\r\nX-Remove: goes\r\n\r\nold body\r\n"


@pytest.fixture(scope="module")
def milter() -> Iterator[str]:
    if not Path("/usr/include/libmilter/mfapi.h").exists():
        need("libmilter-dev")  # which skips, or fails in CI
    with tempfile.TemporaryDirectory(prefix="triosmtp-milter-") as name:
        folder = Path(name)
        program = folder / "every_action"
        command = [need("cc"), "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE), "-lmilter", "-pthread"]
        subprocess.run(command, check=True)
        daemon = Daemon(folder, "milter", str(program), f"unix:{folder}/milter")
        daemon.start()
        try:
            yield f"milter:unix:{folder}/milter"
        finally:
            daemon.kill()


def conf(milter: str) -> str:
    return f"""
        Relay_Domains = ( "example.com" )
        Banner_Hostname = "mx.test"
        Policy = ( "{milter}" )
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """


async def test_every_change_is_applied(milter: str) -> None:
    async with open_memory_server(conf(milter)) as server:
        reply = await (await begun(server)).message("eom.continue@example.org", ["you@example.com"], BODY)
        assert reply.code == 250
        (message,) = server.messages
        assert (message.sender, message.recipients) == (
            "changed@example.org",
            ("added@example.com", "silent@example.com"),
        )
        assert message.body == (
            b"X-First: mx.test eom.continue@example.org NONE - - 192.0.2.1\r\n"
            b"Subject: changed\r\nX-Remove: stays\r\nX-Last: one\r\n\ttwo\r\nX-New: new\r\n\r\nnew body\r\n"
        )


REPLIES = {
    "reject": "550 5.7.1 Command rejected",
    "tempfail": "451 4.7.1 Service unavailable - try again later",
    "reply": "571 5.7.9 100% refused",
    "lines": "450 4.7.9 first\n4.7.9 second",
    "shutdown": "421 4.3.9 going down",
}


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "eoh", "body", "eom"])
async def test_every_verdict_is_obeyed_at_every_step(milter: str, step: str) -> None:
    async with open_memory_server(conf(milter)) as server:
        for verdict, expected in REPLIES.items():
            client = await begun(server)
            found = await client.message(f"{step}.{verdict}@example.org", ["you@example.com"], BODY)
            assert str(found) == expected
        assert server.messages == []
        client = await begun(server)
        for verdict in ("discard", "accept", "nothing"):
            assert (await client.message(f"{step}.{verdict}@example.org", ["you@example.com"], BODY)).code == 250
        assert len(server.messages) == 2
        accepted = [event.discarded_by for event in server.events if isinstance(event, MessageAccepted)]
        assert accepted == [milter, "", ""]


async def test_an_unknown_command_has_the_reply_of_the_milter(milter: str) -> None:
    async with open_memory_server(conf(milter)) as server:
        client = await begun(server)
        assert str(await client.command("XNOTHING at all")) == "502 5.5.9 not even this"
        assert (await client.command("XSOMETHING")).code == 500


async def test_the_rest_of_a_body_is_skipped_and_a_quarantine_is_temporary(milter: str) -> None:
    async with open_memory_server(conf(milter)) as server:
        client = await begun(server)
        large = BODY + b"x" * 70 * 1024 + b"\r\n"
        assert (await client.message("body.skip@example.org", ["you@example.com"], large)).code == 250
        assert server.messages[0].body == large
        found = await client.message("eom.quarantine@example.org", ["you@example.com"], BODY)
        assert str(found) == "451 4.3.5 Server configuration error"
        assert len(server.messages) == 1
