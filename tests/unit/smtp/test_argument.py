"""The arguments of commands: the usual form and the general one, addresses without < and >, commands and envelopes."""

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from smtp_dialogue import ENVELOPE, HOST, Dialogue, codes, greeted

from triosmtp.smtp import (
    NEED_DATA,
    Address,
    BadCommand,
    ConnectionSettings,
    Help,
    MailFrom,
    RcptTo,
    Verify,
    argument,
    mail_address,
)
from triosmtp.smtp.command import COMMANDS
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.line import match_plain_line
from triosmtp.testing import RecordingPolicy, open_memory_server

USE_MAIL = "501 5.5.4 The address has no < and >: use MAIL FROM:<address>"
USE_RCPT = "501 5.5.4 The address has no < and >: use RCPT TO:<address>"
SYNTAX = "501 5.5.4 Syntax: MAIL FROM:<address>"


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
def test_an_invalid_address_is_invalid_without_brackets_too(line: str) -> None:
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


class TestOtherCommands:
    def test_noop_takes_anything(self) -> None:
        assert Dialogue().says("NOOP", "noop some words", "NOOP \u00fc") == ["250 2.0.0 Ok"] * 3

    def test_vrfy_discloses_nothing(self) -> None:
        dialogue = Dialogue()
        assert dialogue.says("VRFY j\u00fcrgen") == ["252 2.1.5 Cannot verify, but will take mail and try"]
        assert dialogue.events == [Verify("j\u00fcrgen")]
        assert codes(dialogue.says("VRFY", b"VRFY \xff\r\n")) == [501, 501]

    def test_help_names_what_may_be_used(self) -> None:
        dialogue = Dialogue(starttls=True)
        assert dialogue.says("HELP MAIL") == [
            "214 2.0.0 Commands: EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"
        ]
        assert dialogue.events == [Help("MAIL")]
        assert "STARTTLS" not in Dialogue().says("HELP")[0]

    @pytest.mark.parametrize("command", ["RSET", "QUIT", "DATA", "STARTTLS"])
    def test_an_argument_where_there_is_none(self, command: str) -> None:
        dialogue = greeted(starttls=True)
        dialogue.says(*ENVELOPE)
        assert dialogue.says(f"{command} now") == ["501 5.5.4 This command takes no argument"]
        assert not dialogue.connection.closed

    def test_unknown_and_unimplemented(self) -> None:
        assert Dialogue().says("FOO bar", "", "EXPN list", "AUTH PLAIN") == [
            "500 5.5.1 Command not recognized", "500 5.5.1 Command not recognized",
            "502 5.5.1 Command not implemented", "502 5.5.1 Command not implemented",
        ]  # fmt: skip

    def test_quit_closes_and_nothing_behind_it_is_read(self) -> None:
        dialogue = Dialogue()
        assert dialogue.says("QUIT", "NOOP") == ["221 2.0.0 Bye"]
        assert dialogue.connection.next_event() is NEED_DATA
        dialogue.connection.receive_data(b"NOOP\r\n")
        assert dialogue.connection.next_event() is NEED_DATA


class TestEnvelope:
    @pytest.mark.parametrize(
        "line",
        ["MAIL", "MAIL ", "MAIL FROM", "MAIL FROM:", "MAIL FROM:a@example.org", "MAIL FROM <a@example.org>",
         "MAIL FROM:<a@example.org", "MAIL FROM:<a@example.org>SIZE=1", "MAIL FROM:<a b@example.org>",
         "MAIL TO:<a@example.org>", "MAIL FROM:<a@example.org>>", "MAIL FROM:<<a@example.org>>", 'MAIL FROM:<"a@b>'],
    )  # fmt: skip
    def test_no_path(self, line: str) -> None:
        dialogue = greeted()
        assert codes(dialogue.says(line)) == [501]

    def test_a_space_behind_the_colon_is_forgiven(self) -> None:
        assert codes(greeted().says("MAIL FROM: <a@example.org> SIZE=1", "RCPT TO:  <b@example.com>")) == [250, 250]

    def test_bad_addresses(self) -> None:
        dialogue = greeted(allow_ip_literal=False, max_command_errors=0)
        assert dialogue.says("MAIL FROM:<.a@example.org>", "MAIL FROM:<a>", "MAIL FROM:<a@[192.0.2.1]>",
                             "MAIL FROM:<\u00fc@example.org>", f"MAIL FROM:<x@{'x' * 64}.org>") == [
            "553 5.1.7 The sender address is malformed",
            "553 5.5.2 The sender address needs a fully-qualified domain",
            "553 5.1.7 Address literals are not accepted in a sender address",
            "553 5.6.7 A sender address that is not ASCII needs SMTPUTF8",
            "553 5.1.7 The sender address is malformed",
        ]  # fmt: skip
        dialogue.says("MAIL FROM:<>")
        assert dialogue.says("RCPT TO:<>", "RCPT TO:<a>", "RCPT TO:<a@[192.0.2.1]>",
                             "RCPT TO:<\u00fc@example.org>") == [
            "553 5.1.3 The recipient address is malformed",
            "553 5.5.2 The recipient address needs a fully-qualified domain",
            "553 5.1.3 Address literals are not accepted in a recipient address",
            "553 5.6.7 A recipient address that is not ASCII needs SMTPUTF8",
        ]  # fmt: skip

    def test_the_null_sender_may_be_refused(self) -> None:
        assert greeted(allow_null_sender=False).says("MAIL FROM:<>") == [
            "550 5.7.1 The null sender is not accepted here"
        ]

    def test_unqualified_addresses_may_be_given_a_domain(self) -> None:
        dialogue = greeted(sender_domain="s.example", recipient_domain="r.example")
        assert codes(dialogue.says("MAIL FROM:<a>", "RCPT TO:<b>", "RCPT TO:<postMaster>")) == [250, 250, 250]
        sender, recipient, postmaster = dialogue.events
        assert isinstance(sender, MailFrom)
        assert isinstance(recipient, RcptTo)
        assert isinstance(postmaster, RcptTo)
        assert str(sender.sender) == "a@s.example"
        assert str(recipient.recipient) == "b@r.example"
        assert postmaster.recipient == Address("postMaster", "")

    def test_utf8_must_be_utf8(self) -> None:
        assert codes(greeted().says(b"MAIL FROM:<\xfc@example.org> SMTPUTF8\r\n")) == [553]


PATHS = st.text(alphabet='<>@ab.-_"\\[]:,1 +=\x7f\u00fc', max_size=20).map(lambda text: text.encode())
LOCAL_PARTS = ["a", "a.b", "a+b=c", "a..b", ".a", "a.", "'", '"a b"', '"a', "\u00fc", "a\u00a0", ""]
DOMAINS = ["b", "b.example", "-b", "b-", "b..c", "b.", "_b", "[192.0.2.1]", "[", "\u00fc.example", "\u2010", "", "1",
           "x" * 64, "a.b" * 90, "b_c", "b@c"]  # fmt: skip
MAILBOXES = st.builds(
    lambda local, domain, brackets: (f"<{local}@{domain}>" if brackets else f"{local}@{domain}").encode(),
    st.sampled_from(LOCAL_PARTS),
    st.sampled_from(DOMAINS),
    st.booleans(),
)
PARAMETERS = st.sampled_from(
    [b"", b" ", b"  ", b" SIZE=9", b"  SIZE=9 BODY=8BITMIME", b" SMTPUTF8", b" SIZE=x", b" \xff", b" BODY=BINARYMIME",
     b" \x85", b" NOTIFY=NEVER", b"\n", b" \n"]
)  # fmt: skip
ARGUMENTS = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from([b"FROM:", b"TO:", b"from:", b"To: ", b"FROM", b"FROM: ", b""]),
    PATHS | MAILBOXES | st.sampled_from([b"<>", b"<postmaster>", b"<@a,@b:c@d>"]),
    PARAMETERS,
)
RULES = ConnectionSettings(hostname=HOST, extensions=frozenset({"DSN", "CHUNKING", "BINARYMIME"}))


def outcome(parse: Any, data: bytes) -> object:
    state = DialogueState(RULES, ErrorCounts(RULES), esmtp=True)
    try:
        event = parse(b"", data, state)
    except CommandError as error:
        return str(error), error.reply, state
    mailbox = getattr(event, "sender", None) or getattr(event, "recipient", None)
    return event, event.path, dict(event.parameters), str(mailbox), state


@example(b"FROM:<a@b>", argument.parse_mail)
@example(b"TO:<a@b> NOTIFY=NEVER", argument.parse_rcpt)
@settings(max_examples=1000)
@given(ARGUMENTS, st.sampled_from([argument.parse_mail, argument.parse_rcpt]))
def test_an_argument(data: bytes, parse: Any) -> None:
    short = outcome(parse, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mail_address, "_PLAIN", re.compile(r"(?!)"))
        assert outcome(parse, data) == short


@example(b"MAIL", b"FROM:<a@b> SIZE=9")
@example(b"MAIL", b"From:<a.b@b.example>")
@example(b"MAIL", b"FROM:<a@b..c>")
@example(b"RCPT", b"TO:<a@b> NOTIFY=NEVER")
@example(b"RCPT", b"To:<a@-b>")
@settings(max_examples=1000)
@given(st.sampled_from([b"MAIL", b"RCPT"]), ARGUMENTS)
def test_a_plain_path(verb: bytes, data: bytes) -> None:
    match = match_plain_line(verb + b" " + data + b"\r\n")
    if match is None:
        return
    found, path, rest, other = match.groups()
    assert found == verb
    if path is None:
        assert other == data
    else:
        parse = COMMANDS[verb].parse_path
        plain = outcome(lambda _line, _data, state: parse(path, rest, state), data)
        assert plain == outcome(COMMANDS[verb].parse, data)


@pytest.mark.parametrize(
    "line", ["MAIL FROM:<a@b>", "RCPT TO:<a+x@b.example> NOTIFY=NEVER", "MAIL From:<a.b@c> SIZE=9"]
)
def test_usual_paths_are_plain(line: str) -> None:
    match = match_plain_line(f"{line}\r\n".encode())
    assert match is not None
    assert match[2] is not None


@pytest.mark.parametrize(
    "line", ["MAIL TO:<a@b>", "RCPT FROM:<a@b>", "MAIL FROM: <a@b>", "MAIL FROM:<>", "VRFY TO:<a@b>"]
)
def test_other_lines_are_not(line: str) -> None:
    match = match_plain_line(f"{line}\r\n".encode())
    assert match is not None
    assert match[2] is None
