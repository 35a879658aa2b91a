"""The steps of a milter if a policy before it ends a phase, or a greeting is refused within a message."""

import pytest
from filter_session import begun
from milter_program import CONTINUE, MilterProgram, milter_program, strings
from policyd_service import action, policyd_service

from triosmtp.testing import open_memory_server

_BODY = b"A: b\r\n\r\nx\r\n"
_MESSAGE = "MRTLNBE"


def _conf(first: str, milter: MilterProgram, scope: str = "") -> str:
    return f"""
        Relay_Domains = ( "example.com" )
        Policy = ( "filter:first" "filter:x" )
        Filter "first" {{ Connect_To = "{first}" {scope} }}
        Filter "x" {{ Connect_To = "{milter.address}" }}
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """


@pytest.mark.parametrize(
    ("phase", "commands"),
    [
        ("connect", "OCH" + 2 * _MESSAGE),
        ("ehlo", "OCH" + 2 * _MESSAGE),
        ("mailfrom", "OCH" + 2 * _MESSAGE),
        ("rcptto", "OCH" + 2 * _MESSAGE),
        ("data", "OCH" + 2 * "MRLNBE"),
        ("rcptto data", "OCH" + 2 * "MRLNBE"),
    ],
)
async def test_steps_of_phases_that_another_policy_has_ended_are_made_up_for(phase: str, commands: str) -> None:
    with milter_program() as milter, policyd_service(action("OK")) as service:
        milter.symbols = [(3, "{mail_addr} {rcpt_addr}")]
        async with open_memory_server(_conf(service.address, milter, f"Phases = ( {phase} )")) as server:
            client = await begun(server)
            for sender in ("a@example.org", "b@example.org"):
                assert (await client.message(sender, ["you@example.com"], _BODY)).code == 250
        found = milter.last
        assert found.commands.rstrip("Q") == commands
        assert found.data_of("M") == [strings("<a@example.org>"), strings("<b@example.org>")]
        assert [each for code, each in found.macros() if code == "R"] == [
            {"{mail_addr}": sender, "{rcpt_addr}": "you@example.com"} for sender in ("a@example.org", "b@example.org")
        ]


@pytest.mark.parametrize(
    ("code", "verdict", "reply", "commands"),
    [
        ("M", b"r", "550 5.7.1", "OCHM"),  # at RCPT: the phase of MAIL was ended
        ("R", b"r", "250", "OCHMRTLNBE"),
        ("R", b"d", "250", "OCHMR"),
        ("R", b"4", "421", "OCHMR"),
    ],
)
async def test_a_verdict_that_is_late_holds_for_the_message_but_not_for_a_recipient(
    code: str, verdict: bytes, reply: str, commands: str
) -> None:
    phases = {"M": "mailfrom", "R": "rcptto"}
    with (
        milter_program(lambda found, _: (verdict if found == code else CONTINUE,)) as milter,
        policyd_service(action("OK")) as service,
    ):
        async with open_memory_server(_conf(service.address, milter, f"Phases = ( {phases[code]} )")) as server:
            client = await begun(server)
            assert str(await client.message("a@example.org", ["you@example.com"], _BODY)).startswith(reply)
            assert len(server.messages) == (verdict == b"r" and code == "R")
        assert milter.last.commands.rstrip("QA") == commands


async def test_changes_of_the_envelope_by_another_milter_are_not_told_as_another_message() -> None:
    changes = b"e" + strings("<new@example.org>"), b"+" + strings("<more@example.com>"), CONTINUE
    with milter_program(lambda code, _: changes if code == "E" else (CONTINUE,)) as first, milter_program() as milter:
        async with open_memory_server(_conf(first.address, milter)) as server:
            client = await begun(server)
            for _ in range(2):
                assert (await client.message("", ["you@example.com"], _BODY)).code == 250
            assert [str(each.sender) for each in server.messages] == ["new@example.org"] * 2
        assert milter.last.commands.rstrip("Q") == "OCH" + 2 * _MESSAGE


async def test_a_greeting_that_is_refused_within_a_message_does_not_lose_the_message() -> None:
    """The transaction goes on (RFC 5321, section 4.1.4), though the milter has ended it."""
    with milter_program() as milter, policyd_service(action("DUNNO")) as service:
        text = _conf(service.address, milter, "Phases = ( ehlo )").replace(
            '"filter:first" "filter:x"', '"filter:x" "filter:first"'
        )
        async with open_memory_server(text) as server:
            client = await begun(server)
            assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
            assert (await client.command("RCPT TO:<you@example.com>")).code == 250
            service.answer = action("REJECT")
            assert (await client.command("EHLO other.example.org")).code == 554
            assert (await client.command("DATA")).code == 354
            await client.send(_BODY + b".\r\n")
            assert (await client.read()).code == 250
        assert milter.last.commands.rstrip("Q") == "OCHMRAHHMRTLNBE"
        assert milter.last.data_of("H")[1:] == [strings("other.example.org"), strings("client.example.org")]
