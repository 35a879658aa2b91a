"""Addresses without < and >, as devices send them that know no better."""

from typing import Any

import pytest
from smtp_dialogue import Dialogue

from triosmtp.smtp import BadCommand, MailFrom, RcptTo
from triosmtp.testing import RecordingPolicy, open_memory_server

USE_MAIL = "501 5.5.4 The address has no < and >: use MAIL FROM:<address>"
USE_RCPT = "501 5.5.4 The address has no < and >: use RCPT TO:<address>"
SYNTAX = "501 5.5.4 Syntax: MAIL FROM:<address>"


def greeted(**rules: Any) -> Dialogue:
    dialogue = Dialogue(**rules)
    dialogue.says("EHLO client.example")
    dialogue.events.clear()
    return dialogue


def test_they_are_refused_with_what_to_write() -> None:
    dialogue = greeted()
    assert dialogue.says("MAIL FROM:a@b.example", "MAIL FROM: a@b.example SIZE=1") == [USE_MAIL] * 2
    dialogue.says("MAIL FROM:<a@b.example>")
    assert dialogue.says("RCPT TO:c@d.example") == [USE_RCPT]
    bad = [event.reason for event in dialogue.events if isinstance(event, BadCommand)]
    assert bad[-1] == "RCPT without < and > (Allow_Unbracketed_Addresses)"


@pytest.mark.parametrize(
    ("line", "address", "parameters"),
    [
        ("MAIL FROM:a@b.example", "a@b.example", {}),
        ("mail from: a@b.example", "a@b.example", {}),
        ("MAIL FROM:a@b.example SIZE=10 BODY=8BITMIME", "a@b.example", {"SIZE": "10", "BODY": "8BITMIME"}),
        ('MAIL FROM:"a b"@b.example SIZE=10', '"a b"@b.example', {"SIZE": "10"}),
        ('MAIL FROM:"a>b"@b.example', '"a>b"@b.example', {}),
        ("MAIL FROM:bücher@b.example SMTPUTF8", "bücher@b.example", {"SMTPUTF8": None}),
        ("MAIL FROM:a@[192.0.2.1]", "a@[192.0.2.1]", {}),
        ("MAIL FROM:<a@b.example>", "a@b.example", {}),
        ("MAIL FROM:<>", "", {}),
    ],
)  # fmt: skip
def test_a_sender_is_taken_if_it_may(line: str, address: str, parameters: dict[str, str | None]) -> None:
    dialogue = greeted(allow_unbracketed=True)
    assert dialogue.says(line)[0].startswith("250"), line
    (event,) = dialogue.events
    assert isinstance(event, MailFrom)
    assert (str(event.sender), dict(event.parameters)) == (address, parameters)


def test_a_recipient_is_taken_if_it_may() -> None:
    dialogue = greeted(allow_unbracketed=True)
    dialogue.says(
        "MAIL FROM:a@b.example", "RCPT TO:c@d.example", "RCPT TO: Postmaster", "RCPT TO:@x.example:e@d.example"
    )
    told = [(str(event.recipient), event.path) for event in dialogue.events if isinstance(event, RcptTo)]
    assert told == [
        ("c@d.example", "<c@d.example>"),
        ("Postmaster", "<Postmaster>"),
        ("e@d.example", "<@x.example:e@d.example>"),
    ]


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    "argument",
    ["", " ", "<a@b.example", "a@b.example>", "<a@b.example>>", "<<a@b.example>", 'a"@b.example'],
)
def test_half_a_bracket_and_nothing_stay_errors(argument: str, allowed: bool) -> None:
    assert greeted(allow_unbracketed=allowed).says(f"MAIL FROM:{argument}") == [SYNTAX]


@pytest.mark.parametrize(
    "line",
    [
        "MAIL FROM:a",
        "MAIL FROM:a b@c.example",
        "MAIL FROM:a@b..example",
        "MAIL FROM:a@b c@d",
        "MAIL FROM:a <a@b.example>",
    ],
)
def test_what_is_no_address_with_brackets_is_none_without(line: str) -> None:
    assert greeted(allow_unbracketed=True).says(line)[0].startswith("5"), line
    assert greeted(allow_unbracketed=True).says(f"MAIL TO:{line[10:]}") == [SYNTAX]


async def test_a_route_without_brackets_is_one() -> None:
    stanza = 'ESMTP_Listener {{ Listen ":25" {{ Peer "192.0.2.1" {{ Allow_Unbracketed_Addresses = {} }} }} }}'
    answers = {}
    for allowed in ("true", "false"):
        conf = f'Relay_Domains = "d.example" {stanza.format(allowed)}'
        async with open_memory_server(conf, policy=RecordingPolicy()) as server:
            client = server.connect()
            await client.read()
            await client.command("EHLO client.example")
            await client.command("MAIL FROM:<a@b.example>")
            lines = ("RCPT TO:c@d.example", "RCPT TO:@x.example:c@d.example", "RCPT TO:c%x@d.example")
            answers[allowed] = [(await client.command(line)).code for line in lines]
    assert answers == {"true": [250, 550, 550], "false": [501, 501, 501]}
