"""The restrictions of a profile: what is not configured is not checked, and each check refuses what its option says."""

import pytest
from session_state import open_dialogue

from triosmtp import Policy, Session
from triosmtp.event import Refused
from triosmtp.policy import PHASES
from triosmtp.server.session.handlers import HANDLERS
from triosmtp.server.session.refusal import Refusal
from triosmtp.server.session.restrictions import check_headers, must_wait_for_space, restrictions_of
from triosmtp.smtp import Address, MailFrom

MAIL = "MAIL FROM:<a@example.org>"
RCPT = "RCPT TO:<b@example.com>"


@pytest.mark.parametrize(
    ("options", "lines", "refused"),
    [
        (
            "Max_Receptions_Per_Connection = 1",
            [MAIL, RCPT, "DATA", "x: y\r\n\r\n.", MAIL],
            "421 4.7.0 Too many messages",
        ),
        ("Max_Recipients_Per_Message = 1", [MAIL, RCPT, RCPT], "452 4.5.3 Too many recipients"),
        ("Max_Recipients_Per_Connection = 1", [MAIL, RCPT, RCPT], "421 4.7.0 Too many recipients"),
        ('Require_TLS_For = ( "example.com" )', [MAIL, RCPT], "530 5.7.0 Must issue a STARTTLS"),
        ('Require_TLS_From = ( "example.org" )', [MAIL], "530 5.7.0 Must issue a STARTTLS"),
        ("", [MAIL, "RCPT TO:<b@else.net>"], "550 5.7.1 relaying denied"),
        ("", [MAIL, "RCPT TO:<b%else.net@example.com>"], "550 5.7.1 Recipient addresses with a route"),
        ("Inbound_Throttle_Messages = 1/60", [MAIL, "RSET", MAIL], "450 4.7.1 Too much mail"),
        ("Recipient_Rate_Per_Peer = 1/60", [MAIL, RCPT, RCPT], "450 4.7.1 Too much mail"),
        ("Spool_Max_Size = 1048576", ["MAIL FROM:<a@example.org> SIZE=9000000"], "452 4.3.1 Insufficient"),
    ],
)
async def test_each_option_refuses_its_case(options: str, lines: list[str], refused: str) -> None:
    async with open_dialogue(f'{options} SMTP_Extensions = ( "ENHANCEDSTATUSCODES" )') as dialogue:
        *accepted, last = await dialogue.say("EHLO client", *lines)
        assert all(reply[0] in "23" for reply in accepted)
        assert last.startswith(refused)
        assert [type(event) for event in dialogue.events].count(Refused) == 1


async def test_restrictions_that_are_not_configured_cost_no_check_and_no_checkpoint() -> None:
    async with open_dialogue("Max_Receptions_Per_Connection = 0 Max_Recipients_Per_Message = 0") as dialogue:
        made = dialogue.state.restrictions
        assert {phase: len(made[phase].checks) for phase in PHASES if made[phase].checks} == {"rcptto": 1}  # the relay
        assert not any(each.waits for each in made.values())
        assert made is restrictions_of(dialogue.state.profile)


class AtData(Policy):
    async def validate_data(self, session: Session) -> None:
        """Let it pass."""


async def test_only_phases_that_a_policy_is_asked_at_need_a_coroutine() -> None:
    async with open_dialogue("", policy=AtData()) as dialogue:
        assert [phase for phase, each in dialogue.state.restrictions.items() if each.waits] == ["data"]
        await dialogue.say("EHLO client")
        state = dialogue.state
        state.connection.receive_data(b"MAIL FROM:<a@example.org> SIZE=2000\r\n")
        event = state.connection.next_event()
        assert isinstance(HANDLERS[type(event)](state, event), bytes)


def test_only_a_large_announced_size_is_waited_for() -> None:
    def mail(**parameters: str) -> MailFrom:
        return MailFrom(Address("a", "example.org"), parameters, "<a@example.org>")

    assert [must_wait_for_space(mail(**each)) for each in ({}, {"SIZE": "2000"}, {"SIZE": "524288"})] == [False] * 3
    assert must_wait_for_space(mail(SIZE="524289"))


async def test_check_headers_counts_received_fields_alone() -> None:
    async with open_dialogue('Max_Received_Headers = 2 RFC2822_Missing_Headers = "reject"') as dialogue:
        settings = dialogue.state.profile.settings
        check_headers(settings, b"Received: a\r\nreceived : b\r\nX-Received: c\r\nX: y\r\n")
        with pytest.raises(Refusal, match="Max_Received_Headers"):
            check_headers(settings, b"Received: a\r\nreceived : b\r\nRECEIVED: c\r\n")
        with pytest.raises(Refusal, match="no header"):
            check_headers(settings, b"\r\n")
