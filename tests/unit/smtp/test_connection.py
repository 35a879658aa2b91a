"""Whole dialogues with the sans-io core."""

from typing import Any

import pytest
from smtp_dialogue import HOST, Dialogue, codes

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    Address,
    BadCommand,
    BodyEnd,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Fatal,
    Hello,
    Help,
    MailFrom,
    RcptTo,
    Reply,
    State,
    Verify,
)
from triosmtp.smtp.error_limit import MAX_PIPELINED_AFTER_REFUSAL

ENVELOPE = ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")


def greeted(**rules: Any) -> Dialogue:
    dialogue = Dialogue(**rules)
    dialogue.says("EHLO client.example")
    dialogue.events.clear()
    return dialogue


class TestBanner:
    def test_it_is_owed_before_anything_is_read(self) -> None:
        connection = Connection(ConnectionSettings(hostname=HOST))
        connection.receive_data(b"NOOP\r\n")
        assert connection.next_event() is PAUSED
        assert connection.send() == b"220 mx.example.org ESMTP\r\n"
        assert connection.next_event() is not PAUSED

    def test_it_may_have_several_lines_and_never_an_enhanced_code(self) -> None:
        dialogue = Dialogue(banner=Reply(220, "one\ntwo", "2.0.0"))
        assert dialogue.banner == b"220-one\r\n220 two\r\n"

    @pytest.mark.parametrize("code", [450, 554])
    def test_a_refusal_leaves_only_quit(self, code: int) -> None:
        dialogue = Dialogue(banner=Reply(code, "No", "5.7.1"))
        assert dialogue.banner == b"%d No\r\n" % code
        assert dialogue.connection.state is State.REFUSED
        lines = dialogue.says("EHLO x", "MAIL FROM:<a@example.org>", "RUBBISH", "QUIT")
        assert lines == ["503 5.5.1 Bad sequence of commands"] * 3 + ["221 2.0.0 Bye"]
        assert dialogue.connection.closed

    def test_after_a_refusal_errors_still_count(self) -> None:
        dialogue = Dialogue(banner=Reply(554, "No"), max_command_errors=2)
        assert codes(dialogue.says("NOOP", "NOOP", "NOOP", "NOOP")) == [503, 503, 421]

    def test_421_closes(self) -> None:
        dialogue = Dialogue(banner=Reply(421, "Too busy", "4.3.2"))
        assert dialogue.connection.closed
        assert dialogue.says("NOOP") == []


class TestHello:
    def test_ehlo_names_the_extensions(self) -> None:
        dialogue = Dialogue(starttls=True, max_message_size=1000)
        assert dialogue.says("EHLO Client.example") == [
            "250-mx.example.org", "250-PIPELINING", "250-8BITMIME", "250-SIZE 1000", "250-SMTPUTF8",
            "250-ENHANCEDSTATUSCODES", "250 STARTTLS",
        ]  # fmt: skip
        assert dialogue.events == [Hello("EHLO", "Client.example", "EHLO Client.example")]

    def test_what_is_off_is_not_offered(self) -> None:
        lines = Dialogue(enhanced_status_codes=False).says("ehlo [192.0.2.1]")
        assert lines == ["250-mx.example.org", "250-PIPELINING", "250-8BITMIME", "250-SIZE 0", "250 SMTPUTF8"]

    def test_helo_has_one_line(self) -> None:
        dialogue = Dialogue()
        assert dialogue.says("Helo under_score") == ["250 mx.example.org"]
        assert dialogue.events == [Hello("HELO", "under_score", "Helo under_score")]

    @pytest.mark.parametrize("domain", ["", " ", " two words", f" {'x' * 256}", " b\u00fccher.example"])
    def test_it_needs_one_printable_word(self, domain: str) -> None:
        dialogue = Dialogue()
        assert codes(dialogue.says(f"EHLO{domain}", f"HELO{domain}")) == [501, 501]
        assert dialogue.connection.state is State.READY

    def test_its_errors_have_no_enhanced_code(self) -> None:
        assert Dialogue().says("EHLO", "HELO") == ["501 Syntax: EHLO hostname", "501 Syntax: HELO hostname"]

    def test_extra_spaces_before_the_domain_are_forgiven(self) -> None:
        dialogue = Dialogue()
        assert codes(dialogue.says("EHLO  x")) == [250]
        assert dialogue.events == [Hello("EHLO", "x", "EHLO  x")]

    def test_a_hello_in_mid_transaction_ends_it(self) -> None:
        dialogue = greeted()
        assert codes(dialogue.says(*ENVELOPE, "EHLO again", "DATA")) == [250, 250, 250, 503]

    def test_a_refused_hello_changes_nothing(self) -> None:
        dialogue = greeted()
        dialogue.says(*ENVELOPE)
        dialogue.answers["Hello"] = [Reply(550, "No", "5.7.1")]
        assert dialogue.says("HELO again") == ["550 No"]
        assert dialogue.connection.state is State.RCPT
        assert codes(dialogue.says("MAIL FROM:<> SIZE=1", "DATA")) == [503, 354]

    def test_it_may_be_demanded(self) -> None:
        dialogue = Dialogue(require_hello=True)
        assert dialogue.says("RSET", "MAIL FROM:<>", "RCPT TO:<postmaster>", "DATA") == [
            "250 2.0.0 Ok", "503 5.5.1 Send EHLO first", "503 5.5.1 Send EHLO first", "503 5.5.1 Send EHLO first",
        ]  # fmt: skip
        assert codes(dialogue.says("EHLO x", "RSET", "MAIL FROM:<>")) == [250, 250, 250]

    def test_it_is_not_demanded_otherwise(self) -> None:
        assert codes(Dialogue().says("MAIL FROM:<>", "RCPT TO:<postmaster>")) == [250, 250]


class TestTransaction:
    def test_from_mail_to_the_end_of_the_body(self) -> None:
        dialogue = greeted()
        lines = dialogue.says(*ENVELOPE, "RCPT TO:<c@example.com>", "DATA", "Subject: x", "", "..dot", ".", "QUIT")
        assert lines == [
            "250 2.1.0 Sender ok", "250 2.1.5 Recipient ok", "250 2.1.5 Recipient ok",
            "354 End data with <CR><LF>.<CR><LF>", "250 2.6.0 Message accepted", "221 2.0.0 Bye",
        ]  # fmt: skip
        assert dialogue.names == ["MailFrom", "RcptTo", "RcptTo", "Data", "BodyEnd", "Quit"]
        assert dialogue.events[0] == MailFrom(Address("a", "example.org"), {}, "<a@example.org>")
        assert dialogue.events[1] == RcptTo(Address("b", "example.com"), {}, "<b@example.com>")
        assert dialogue.body == b"Subject: x\r\n\r\n.dot\r\n"
        assert dialogue.events[-2] == BodyEnd(len(dialogue.body), None, dialogue.body)

    def test_several_on_one_connection(self) -> None:
        dialogue = greeted()
        for _ in range(3):
            assert codes(dialogue.says(*ENVELOPE, "DATA", "x", ".")) == [250, 250, 354, 250]

    def test_an_empty_body(self) -> None:
        dialogue = greeted()
        assert codes(dialogue.says(*ENVELOPE, "DATA", ".")) == [250, 250, 354, 250]
        assert dialogue.events[-1] == BodyEnd(0)

    @pytest.mark.parametrize("code", [250, 452, 554])
    def test_the_body_ends_it_whatever_the_reply(self, code: int) -> None:
        dialogue = greeted()
        dialogue.answers["BodyEnd"] = [Reply(code, "That")]
        assert codes(dialogue.says(*ENVELOPE, "DATA", ".", "RCPT TO:<c@example.com>", "MAIL FROM:<>")) == [
            250, 250, 354, code, 503, 250,
        ]  # fmt: skip

    def test_a_refused_data_leaves_the_recipients(self) -> None:
        dialogue = greeted()
        dialogue.answers["Data"] = [Reply(451, "Later", "4.3.0")]
        assert codes(dialogue.says(*ENVELOPE, "DATA", "DATA")) == [250, 250, 451, 354]
        assert dialogue.connection.in_body

    def test_reset_forgets_it(self) -> None:
        assert codes(greeted().says(*ENVELOPE, "RSET", "DATA", "MAIL FROM:<>")) == [250, 250, 250, 503, 250]

    def test_out_of_sequence(self) -> None:
        dialogue = greeted()
        assert dialogue.says("RCPT TO:<b@example.com>", "DATA", "MAIL FROM:<>", "DATA", "MAIL FROM:<>") == [
            "503 5.5.1 Need MAIL command first", "503 5.5.1 Need MAIL command first", "250 2.1.0 Sender ok",
            "503 5.5.1 Need RCPT command first", "503 5.5.1 Nested MAIL command",
        ]  # fmt: skip

    def test_data_after_refused_recipients_alone(self) -> None:
        dialogue = greeted()
        dialogue.answers["RcptTo"] = [Reply(550, "No", "5.1.1")]
        assert dialogue.says(*ENVELOPE, "RCPT TO:<bad", "DATA")[-1] == "554 5.5.1 No valid recipients"
        assert codes(dialogue.says("RCPT TO:<c@example.com>", "DATA")) == [250, 354]

    def test_a_refused_sender_leaves_no_transaction(self) -> None:
        dialogue = greeted()
        dialogue.answers["MailFrom"] = [Reply(550, "No", "5.7.1")]
        assert codes(dialogue.says(*ENVELOPE, "DATA")) == [550, 503, 503]

    def test_without_enhanced_codes(self) -> None:
        dialogue = greeted(enhanced_status_codes=False)
        assert dialogue.says("MAIL FROM:<a@b@c>", "NOOP") == ["553 The sender address is malformed", "250 Ok"]


class TestOtherCommands:
    def test_noop_takes_anything(self) -> None:
        assert Dialogue().says("NOOP", "noop some words", "NOOP \u00fc") == ["250 2.0.0 Ok"] * 3

    def test_vrfy_tells_nothing(self) -> None:
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


class TestLines:
    @pytest.mark.parametrize("line", [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NOOP\r\r\n", b"\nNOOP\r\n", b"\n\n\r\n"])
    def test_a_lone_cr_or_lf_ends_no_line(self, line: bytes) -> None:
        dialogue = Dialogue()
        assert dialogue.says(line, "NOOP") == [
            "500 5.5.2 Lines must end in CR LF; a lone CR or LF is not accepted", "250 2.0.0 Ok",
        ]  # fmt: skip

    @pytest.mark.parametrize("octet", [b"\0", b"\t", b"\x1b", b"\x7f", b"\x08"])
    def test_control_characters(self, octet: bytes) -> None:
        dialogue = Dialogue()
        lines = dialogue.says(b"NOOP " + octet + b"x\r\n", b"NOOP \xc3\xbc" + octet + b"x\r\n", "NOOP")
        assert lines == ["500 5.5.2 Control characters are not accepted"] * 2 + ["250 2.0.0 Ok"]

    def test_trailing_white_space_may_be_forbidden(self) -> None:
        dialogue = Dialogue(allow_trailing_whitespace=False)
        assert dialogue.says("NOOP ", "QUIT ") == ["501 5.5.4 Trailing white space is not accepted"] * 2

    @pytest.mark.parametrize("blanks", [" ", "\t", "   ", " \t", "\t "])
    def test_trailing_white_space_is_overlooked(self, blanks: str) -> None:
        dialogue = Dialogue(starttls=True)
        lines = [f"{line}{blanks}" for line in (
            "EHLO x", "NOOP", "HELP", "VRFY x", "MAIL FROM:<a@example.org>", "RSET", "MAIL FROM:<a@example.org> SIZE=1",
            "RCPT TO:<b@example.org>", "DATA",
        )]  # fmt: skip
        assert codes(dialogue.says(*lines)) == [250, 250, 214, 252, 250, 250, 250, 250, 354]
        hello, sender = dialogue.events[0], dialogue.events[4]
        assert isinstance(hello, Hello)
        assert (hello.domain, hello.line) == ("x", "EHLO x")
        assert isinstance(sender, MailFrom)
        assert (str(sender.sender), sender.path) == ("a@example.org", "<a@example.org>")
        assert codes(dialogue.says(f".\r\nSTARTTLS{blanks}")) == [250, 220]
        assert codes(Dialogue().says(f"QUIT{blanks}")) == [221]

    def test_white_space_is_never_part_of_an_address(self) -> None:
        dialogue = Dialogue()
        assert codes(dialogue.says(
            "MAIL FROM:<a@example.org >", "MAIL FROM:< a@example.org>", "MAIL FROM:<a @example.org>",
            "MAIL FROM:<a@example.org\t>", "MAIL\tFROM:<a@example.org>", "MAIL FROM:<a@example.org>\tSIZE=1",
            'MAIL FROM:<"a "@example.org> ',
        )) == [501, 501, 501, 500, 500, 500, 250]  # fmt: skip
        assert isinstance(dialogue.events[-1], MailFrom)
        assert dialogue.events[-1].sender.local_part == "a "

    def test_verbs_in_any_case(self) -> None:
        assert codes(Dialogue().says("eHlO x", "mAiL fRoM:<>", "rCpT tO:<Postmaster>", "dAtA")) == [250, 250, 250, 354]

    @pytest.mark.parametrize("size", [0, 1, 100])
    def test_the_longest_line(self, size: int) -> None:
        dialogue = Dialogue(max_line=512)
        assert dialogue.says("NOOP " + "x" * 505, size=size) == ["250 2.0.0 Ok"]
        assert dialogue.says("NOOP " + "x" * 506, size=size) == ["500 5.5.2 Line too long"]
        assert dialogue.says("NOOP", size=size) == ["250 2.0.0 Ok"]

    def test_a_long_line_is_one_error_and_bounded(self) -> None:
        dialogue = Dialogue()
        connection = dialogue.connection
        for _ in range(160):
            connection.receive_data(b"MAIL\n\0 " + b"x" * 65536 + b"\r")
            assert connection.next_event() is NEED_DATA
            assert len(connection._buffer) + len(connection._skipped) <= 2048
        assert dialogue.says("", "NOOP") == ["500 5.5.2 Line too long", "250 2.0.0 Ok"]
        (event, _) = dialogue.events
        assert isinstance(event, BadCommand)
        assert event.line.startswith(b"MAIL\n\0 xxx")
        assert len(event.line) == 512


class TestErrorBudget:
    def test_the_error_beyond_it_is_fatal(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        assert dialogue.says(*["FOO"] * 5) == ["500 5.5.1 Command not recognized"] * 3 + ["421 4.7.0 Too many errors"]
        assert isinstance(dialogue.events[-1], Fatal)
        assert dialogue.connection.closed

    def test_none(self) -> None:
        assert codes(Dialogue(max_command_errors=0).says(*["FOO"] * 100)) == [500] * 100

    def test_an_accepted_message_renews_it(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        assert codes(dialogue.says(*["FOO"] * 3, *ENVELOPE, "DATA", ".", *["FOO"] * 4))[-4:] == [500, 500, 500, 421]

    def test_a_refused_message_does_not(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.answers["BodyEnd"] = [Reply(554, "No")]
        assert codes(dialogue.says(*["FOO"] * 3, *ENVELOPE, "DATA", ".", "FOO"))[-1] == 421

    def test_what_was_pipelined_behind_a_refusal_is_excused(self) -> None:
        dialogue = Dialogue(max_command_errors=30)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 29
        dialogue.answers["RcptTo"] = [Reply(550, "No")] * 30
        for _ in range(29):  # a refused MAIL counts, what is behind it does not
            assert codes(dialogue.says(*ENVELOPE, "DATA")) == [550, 503, 503]
        for _ in range(30):  # how many recipients are refused is bounded by the driver
            assert codes(dialogue.says(*ENVELOPE, "DATA", "RSET")) == [250, 550, 554, 250]
        assert codes(dialogue.says("DATA", "DATA")) == [503, 421]

    @pytest.mark.parametrize("refused", ["MAIL FROM:<", "RCPT TO:<"])
    def test_what_comes_after_the_refusal_was_written_is_not_excused(self, refused: str) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.says("MAIL FROM:<a@example.org>" if refused[0] == "R" else "NOOP")
        assert codes(dialogue.says(refused, *["DATA"] * 5))[1:] in ([503] * 5, [554] * 5)
        assert [codes(dialogue.says("DATA"))[0] for _ in range(3)] in ([503, 503, 421], [554, 554, 421])

    def test_a_group_that_is_read_in_pieces_is_excused(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(450, "Not now")]
        group = "".join(f"{line}\r\n" for line in [ENVELOPE[0], *["RCPT TO:<c@example.com>"] * 50, "DATA"]).encode()
        said = [code for at in range(0, len(group), 100) for code in codes(dialogue.says(group[at : at + 100]))]
        assert said == [450] + [503] * 51

    def test_excuses_are_bounded(self) -> None:
        dialogue = Dialogue(max_command_errors=3)
        said = codes(dialogue.says("MAIL FROM:<", *["DATA"] * 5000))
        assert said == [501] + [503] * (MAX_PIPELINED_AFTER_REFUSAL + 2) + [421]

    @pytest.mark.parametrize(
        ("event", "group"), [("MailFrom", ENVELOPE[:1]), ("Hello", ["EHLO x"]), ("Data", [*ENVELOPE, "DATA", "RSET"])]
    )
    def test_refusals_by_the_driver_count(self, event: str, group: list[str]) -> None:
        dialogue = Dialogue(max_command_errors=3)
        dialogue.answers[event] = [Reply(550, "No")] * 9
        said = [code for _ in range(9) for code in codes(dialogue.says(*group))]
        assert said.count(550) == 4  # each is answered with its own reply, and the command behind the last with 421
        assert said[-1] == 421
        assert isinstance(dialogue.events[-1], Fatal)

    def test_after_too_many_refusals_quit_is_answered(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 2
        assert codes(dialogue.says(ENVELOPE[0], ENVELOPE[0], "QUIT")) == [550, 550, 221]

    def test_a_refusal_by_a_limit_is_junk(self) -> None:
        dialogue = Dialogue(max_command_errors=1, max_junk_commands=5)
        for _ in range(6):
            dialogue.connection.receive_data(b"MAIL FROM:<>\r\n")
            assert isinstance(dialogue.connection.next_event(), MailFrom)
            dialogue.connection.send(Reply(450, "Later"), by_limit=True)
        assert dialogue.says("NOOP") == ["421 4.7.0 Too many commands without a message"]

    def test_all_of_a_long_group_is_excused(self) -> None:
        dialogue = Dialogue(max_command_errors=1)
        dialogue.answers["MailFrom"] = [Reply(550, "No")]
        assert codes(dialogue.says(*ENVELOPE, "DATA", "RCPT TO:<c@example.com>", "DATA", "DATA")) == [550] + [503] * 5

    def test_a_handshake_does_not_renew_it(self) -> None:
        dialogue = Dialogue(max_command_errors=2, starttls=True)
        assert codes(dialogue.says("FOO", "FOO", "STARTTLS")) == [500, 500, 220]
        assert codes(dialogue.says("FOO")) == [421]

    def test_the_excuse_ends_with_a_hello(self) -> None:
        dialogue = Dialogue(max_command_errors=2)
        dialogue.answers["MailFrom"] = [Reply(550, "No")] * 2
        assert codes(dialogue.says(*ENVELOPE, "HELO x", "DATA", "DATA")) == [550, 503, 250, 503, 421]


class TestSTARTTLS:
    def test_what_was_learnt_before_is_forgotten(self) -> None:
        dialogue = greeted(starttls=True)
        dialogue.says(*ENVELOPE)
        dialogue.events.clear()
        assert dialogue.says("STARTTLS") == ["220 2.0.0 Ready to start TLS"]
        assert dialogue.names == ["StartTLS", "SwitchToTLS"]
        assert codes(dialogue.says("DATA", "RCPT TO:<b@example.com>", "MAIL FROM:<>")) == [503, 503, 503]
        assert "250-STARTTLS" not in dialogue.says("EHLO x")
        assert dialogue.says("STARTTLS") == ["503 5.5.1 TLS is already active"]
        assert codes(dialogue.says(*ENVELOPE, "DATA", ".")) == [250, 250, 354, 250]

    def test_parameters_need_a_new_ehlo(self) -> None:
        dialogue = greeted(starttls=True)
        assert codes(dialogue.says("STARTTLS")) == [220]
        assert codes(dialogue.says("HELO x", "MAIL FROM:<> SIZE=1")) == [250, 555]

    def test_not_offered(self) -> None:
        assert Dialogue().says("STARTTLS") == ["502 5.5.1 Command not implemented"]

    def test_inside_implicit_tls(self) -> None:
        assert Dialogue(tls=True).says("STARTTLS", "MAIL FROM:<>") == [
            "503 5.5.1 TLS is already active", "250 2.1.0 Sender ok",
        ]  # fmt: skip

    def test_refused_leaves_the_transaction(self) -> None:
        dialogue = greeted(starttls=True)
        dialogue.answers["StartTLS"] = [Reply(454, "TLS not available", "4.7.0")]
        dialogue.says(*ENVELOPE)
        assert codes(dialogue.says("STARTTLS")) == [454]
        assert codes(dialogue.says("DATA")) == [354]

    def test_nothing_is_read_during_the_handshake(self) -> None:
        dialogue = Dialogue(starttls=True, handshake=False)
        dialogue.says("STARTTLS")
        connection = dialogue.connection
        assert connection.next_event() is PAUSED
        with pytest.raises(RuntimeError, match="handshake"):
            connection.receive_data(b"\x16\x03\x01")
        connection.receive_data(b"")
        assert connection.next_event() == ConnectionEnded(clean=False)

    def test_required(self) -> None:
        dialogue = Dialogue(starttls=True, require_tls=True)
        assert codes(dialogue.says("EHLO x", "NOOP", "MAIL FROM:<>", "RSET")) == [250, 250, 530, 530]
        assert codes(dialogue.says("STARTTLS")) == [220]
        assert codes(dialogue.says("EHLO x", "MAIL FROM:<>")) == [250, 250]


class TestInjection:
    """Octets behind STARTTLS in plaintext: anybody on the way may have put them there."""

    @pytest.mark.parametrize("behind", [b"RSET\r\n", b"MAIL FROM:<evil@example.org>\r\n", b"x", b"\r", b"\x16\x03\x01"])
    def test_reject(self, behind: bytes) -> None:
        dialogue = Dialogue(starttls=True)
        assert dialogue.says(b"STARTTLS\r\n" + behind) == ["554 5.7.0 Input after STARTTLS is not accepted"]
        assert dialogue.names == ["Fatal"]
        assert "injection" in str(dialogue.events[0])
        assert dialogue.connection.closed

    def test_reject_what_came_before_the_220_was_sent(self) -> None:
        connection = Dialogue(starttls=True).connection
        connection.receive_data(b"STARTTLS\r\n")
        assert connection.next_event() is not PAUSED
        connection.receive_data(b"NOOP\r\n")
        connection.send()
        assert isinstance(connection.next_event(), Fatal)
        connection.send()
        assert connection.closed

    def test_ignore(self) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection="ignore")
        assert codes(dialogue.says("STARTTLS", "MAIL FROM:<evil@example.org>", b"RC")) == [220]
        assert dialogue.names == ["StartTLS", "SwitchToTLS"]
        assert codes(dialogue.says("EHLO x")) == [250]

    def test_allow_takes_whole_lines_as_sent_before(self) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection="allow")
        assert codes(dialogue.says("STARTTLS", "EHLO evil", "MAIL FROM:<>", "DATA", "STARTTLS", b"RC")) == [
            220, 250, 250, 503, 503,
        ]  # fmt: skip
        assert dialogue.names == ["StartTLS", "Hello", "MailFrom", "BadCommand", "BadCommand", "SwitchToTLS"]
        assert codes(dialogue.says("RCPT TO:<postmaster>", "EHLO x")) == [503, 250]

    def test_allow_with_nothing_behind(self) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection="allow")
        assert codes(dialogue.says("STARTTLS")) == [220]
        assert dialogue.names == ["StartTLS", "SwitchToTLS"]

    def test_allow_with_a_quit_behind(self) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection="allow")
        assert codes(dialogue.says("STARTTLS", "QUIT", "NOOP")) == [220, 221]
        assert dialogue.names == ["StartTLS", "Quit"]

    def test_allow_with_a_line_too_long_behind(self) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection="allow")
        assert codes(dialogue.says("STARTTLS", b"x" * 5000)) == [220]
        assert dialogue.names == ["StartTLS", "SwitchToTLS"]
        assert codes(dialogue.says("NOOP")) == [250]

    @pytest.mark.parametrize("policy", ["reject", "ignore", "allow"])
    def test_commands_before_it_are_no_injection(self, policy: str) -> None:
        dialogue = Dialogue(starttls=True, starttls_injection=policy)
        assert codes(dialogue.says("EHLO x", "NOOP", "STARTTLS")) == [250, 250, 220]
        assert dialogue.names == ["Hello", "Noop", "StartTLS", "SwitchToTLS"]


class TestRefuse:
    def test_every_command_but_quit_gets_the_refusal(self) -> None:
        dialogue = Dialogue()
        dialogue.connection.refuse_commands(Reply(550, "A valid certificate is required", "5.7.1"))
        lines = dialogue.says("EHLO x", *ENVELOPE, "RUBBISH", b"x\n\r\n", "x" * 3000, "QUIT now")
        assert lines == ["550 A valid certificate is required"] + ["550 5.7.1 A valid certificate is required"] * 6
        assert dialogue.names == ["BadCommand"] * 7
        assert dialogue.says("QUIT") == ["221 2.0.0 Bye"]

    def test_who_goes_on_for_ever_is_shown_the_door(self) -> None:
        dialogue = Dialogue(max_command_errors=2)
        dialogue.connection.refuse_commands(Reply(550, "A valid certificate is required", "5.7.1"))
        assert codes(dialogue.says(*["NOOP"] * 4)) == [550, 550, 421]

    def test_421_closes(self) -> None:
        dialogue = Dialogue()
        dialogue.connection.refuse_commands(Reply(421, "No", "4.7.0"))
        assert dialogue.says("NOOP", "NOOP") == ["421 4.7.0 No"]
        assert dialogue.connection.closed


class TestTheEnd:
    def test_between_transactions_is_clean(self) -> None:
        assert greeted().hangs_up() == ConnectionEnded(clean=True)

    @pytest.mark.parametrize("lines", [["MAIL FROM:<>"], list(ENVELOPE), [*ENVELOPE, "DATA"], [b"NOO"], [b"x" * 9999]])
    def test_cut_off(self, lines: list[str | bytes]) -> None:
        dialogue = greeted()
        dialogue.says(*lines)
        assert dialogue.hangs_up() == ConnectionEnded(clean=False)
        assert dialogue.connection.closed

    def test_what_came_before_it_is_still_answered(self) -> None:
        connection = Dialogue().connection
        connection.receive_data(b"NOOP\r\nQUIT\r\n")
        connection.receive_data(b"")
        for reply in (b"250 2.0.0 Ok\r\n", b"221 2.0.0 Bye\r\n"):
            assert connection.next_event() not in {NEED_DATA, PAUSED}
            assert connection.send() == reply
        assert connection.closed

    def test_nothing_comes_after_it(self) -> None:
        connection = Dialogue().connection
        connection.receive_data(b"NOOP\r\n")
        connection.receive_data(b"")
        with pytest.raises(RuntimeError, match="closed already"):
            connection.receive_data(b"NOOP\r\n")

    def test_from_our_side(self) -> None:
        connection = Dialogue().connection
        connection.receive_data(b"NOOP\r\n")
        connection.close()
        assert connection.closed
        assert connection.next_event() is NEED_DATA


class TestSend:
    def test_421_at_any_time(self) -> None:
        dialogue = greeted()
        dialogue.says(*ENVELOPE, "DATA", "half a mess")
        assert dialogue.connection.send(Reply(421, "Going down", "4.3.2")) == b"421 4.3.2 Going down\r\n"
        assert dialogue.connection.closed
        with pytest.raises(RuntimeError, match="no reply is owed"):
            dialogue.connection.send(Reply(421, "Twice"))

    @pytest.mark.parametrize("reply", [None, Reply(250, "Ok"), Reply(550, "No")])
    def test_nothing_owed(self, reply: Reply | None) -> None:
        with pytest.raises(RuntimeError, match="no reply is owed"):
            Dialogue().connection.send(reply)

    @pytest.mark.parametrize(
        ("line", "code"), [("DATA", 250), ("NOOP", 354), ("RUBBISH", 250), ("MAIL FROM:<>", 250), ("DATA", 220)]
    )
    def test_a_positive_reply_must_fit(self, line: str, code: int) -> None:
        dialogue = greeted()
        dialogue.says(*ENVELOPE)
        dialogue.connection.receive_data(line.encode() + b"\r\n")
        assert dialogue.connection.next_event() is not PAUSED
        with pytest.raises(RuntimeError, match="does not answer"):
            dialogue.connection.send(Reply(code, "Ok"))
        assert dialogue.connection.next_event() is PAUSED

    def test_a_faulty_body_cannot_be_accepted(self) -> None:
        connection = greeted(max_message_size=1).connection
        connection.receive_data(b"MAIL FROM:<>\r\n")
        for data in (b"RCPT TO:<postmaster>\r\n", b"DATA\r\n", b"xx\r\n.\r\n"):
            connection.next_event()
            connection.send()
            connection.receive_data(data)
        while not isinstance(connection.next_event(), BodyEnd):
            pass
        with pytest.raises(RuntimeError, match="in error"):
            connection.send(Reply(250, "Ok"))
        assert connection.send() == b"552 5.3.4 Message size exceeds the fixed limit\r\n"

    def test_handshake_out_of_place(self) -> None:
        with pytest.raises(RuntimeError, match="no handshake"):
            Dialogue().connection.tls_started()

    @pytest.mark.parametrize("code", [221, 421])
    def test_replies_that_close(self, code: int) -> None:
        dialogue = greeted()
        dialogue.answers["Noop"] = [Reply(code, "Bye")]
        assert codes(dialogue.says("NOOP", "NOOP")) == [code]
        assert dialogue.connection.closed

    def test_a_pipelined_group_is_answered_before_more_is_read(self) -> None:
        """All its replies are there at NEED_DATA, where the caller writes them in one piece (RFC 2920, section 3.2)."""
        connection = greeted().connection
        connection.receive_data(b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRSET\r\nNOOP\r\nRUBBISH\r\nVR")
        wire = []
        while connection.next_event() is not NEED_DATA:
            wire.append(connection.accept()[:3])
        assert wire == [b"250", b"250", b"250", b"250", b"500"]


class TestParameters:
    def test_all_that_are_known(self) -> None:
        dialogue = greeted()
        assert codes(dialogue.says("MAIL FROM:<a@example.org> size=12  BODY=8bitmime smtputf8")) == [250]
        (event,) = dialogue.events
        assert isinstance(event, MailFrom)
        assert event.parameters == {"SIZE": "12", "BODY": "8BITMIME", "SMTPUTF8": None}

    @pytest.mark.parametrize(
        ("parameters", "reply"),
        [
            ("SIZE", "501 5.5.4 SIZE is a number of octets"),
            ("SIZE=x", "501 5.5.4 SIZE is a number of octets"),
            ("SIZE=\u0661", "501 5.5.4 SIZE is a number of octets"),
            ("SIZE=" + "1" * 21, "501 5.5.4 SIZE is a number of octets"),
            ("SIZE=1001", "552 5.3.4 Message size exceeds the fixed limit"),
            ("BODY", "501 5.5.4 BODY is 7BIT or 8BITMIME"),
            ("BODY=BINARYMIME", "501 5.5.4 BODY is 7BIT or 8BITMIME"),
            ("SMTPUTF8=yes", "501 5.5.4 SMTPUTF8 takes no value"),
            ("SIZE=", "501 5.5.4 Malformed parameter"),
            ("=1", "501 5.5.4 Malformed parameter"),
            ("SIZE=1=2", "501 5.5.4 Malformed parameter"),
            ("SIZE=1 SIZE=1", "501 5.5.4 Malformed parameter"),
            ("-X", "501 5.5.4 Malformed parameter"),
            ("RET=HDRS", "555 5.5.4 Unsupported parameter: RET"),
            ("AUTH=<>", "555 5.5.4 Unsupported parameter: AUTH"),
            ("X" * 99, "555 5.5.4 Unsupported parameter: " + "X" * 40),
        ],
    )
    def test_bad(self, parameters: str, reply: str) -> None:
        assert greeted(max_message_size=1000).says(f"MAIL FROM:<a@example.org> {parameters}") == [reply]

    def test_not_utf8(self) -> None:
        assert codes(greeted().says(b"MAIL FROM:<> X=\xff\r\n")) == [501]

    def test_size_at_the_limit(self) -> None:
        assert codes(greeted(max_message_size=1000).says("MAIL FROM:<> SIZE=1000")) == [250]
        assert codes(greeted().says("MAIL FROM:<> SIZE=99999999999999999999")) == [250]

    def test_rcpt_has_none(self) -> None:
        dialogue = greeted()
        assert dialogue.says("MAIL FROM:<>", "RCPT TO:<b@example.com> NOTIFY=NEVER")[1] == (
            "555 5.5.4 Unsupported parameter: NOTIFY"
        )

    @pytest.mark.parametrize("hello", [["HELO x"], ["NOOP"], ["EHLO x", "HELO x"]])
    def test_none_without_ehlo(self, hello: list[str]) -> None:
        dialogue = Dialogue()
        assert dialogue.says(*hello, "MAIL FROM:<> SIZE=1")[-1] == "555 5.5.4 Unsupported parameter: SIZE"


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

    def test_smtputf8_holds_for_its_transaction(self) -> None:
        dialogue = greeted()
        mail = "MAIL FROM:<j\u00fcrgen@b\u00fccher.example> SMTPUTF8"
        dialogue.answers["RcptTo"] = [Reply(250, "\u00fc?"), Reply(550, "\u00fc?")]
        assert codes(dialogue.says(mail)) == [250]
        assert dialogue.says("RCPT TO:<\u00fc@example.com>") == ["250 \u00fc?"]
        assert codes(dialogue.says("RSET", "MAIL FROM:<>")) == [250, 250]
        assert dialogue.says("RCPT TO:<\u00fc@example.com>", "RCPT TO:<u@example.com>") == [
            "553 5.6.7 A recipient address that is not ASCII needs SMTPUTF8", "550 ??",
        ]  # fmt: skip

    def test_smtputf8_goes_with_a_refused_mail(self) -> None:
        dialogue = greeted()
        dialogue.answers["MailFrom"] = [Reply(550, "\u00fc")]
        assert dialogue.says("MAIL FROM:<> SMTPUTF8") == ["550 \u00fc"]
        dialogue.answers["Noop"] = [Reply(550, "\u00fc")]
        assert dialogue.says("NOOP") == ["550 ?"]

    def test_utf8_must_be_utf8(self) -> None:
        assert codes(greeted().says(b"MAIL FROM:<\xfc@example.org> SMTPUTF8\r\n")) == [553]
