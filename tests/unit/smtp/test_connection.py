"""Whole dialogues with the sans-io core."""

import pytest
from smtp_dialogue import ENVELOPE, HOST, Dialogue, codes, greeted

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    Address,
    BodyEnd,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Hello,
    MailFrom,
    ProtocolFailure,
    RcptTo,
    Reply,
    State,
)


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

    def test_a_disabled_extension_is_not_offered(self) -> None:
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
    def test_the_body_ends_the_transaction_with_any_reply(self, code: int) -> None:
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


class TestSTARTTLS:
    def test_not_offered(self) -> None:
        assert Dialogue().says("STARTTLS") == ["502 5.5.1 Command not implemented"]

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
        assert dialogue.names == ["ProtocolFailure"]
        assert "injection" in str(dialogue.events[0])
        assert dialogue.connection.closed

    def test_reject_what_came_before_the_220_was_sent(self) -> None:
        connection = Dialogue(starttls=True).connection
        connection.receive_data(b"STARTTLS\r\n")
        assert connection.next_event() is not PAUSED
        connection.receive_data(b"NOOP\r\n")
        connection.send()
        assert isinstance(connection.next_event(), ProtocolFailure)
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


class TestTheEnd:
    def test_between_transactions_is_clean(self) -> None:
        assert greeted().hangs_up() == ConnectionEnded(clean=True)

    @pytest.mark.parametrize("lines", [["MAIL FROM:<>"], list(ENVELOPE), [*ENVELOPE, "DATA"], [b"NOO"], [b"x" * 9999]])
    def test_cut_off(self, lines: list[str | bytes]) -> None:
        dialogue = greeted()
        dialogue.says(*lines)
        assert dialogue.hangs_up() == ConnectionEnded(clean=False)
        assert dialogue.connection.closed

    def test_commands_before_the_event_are_still_answered(self) -> None:
        connection = Dialogue().connection
        connection.receive_data(b"NOOP\r\nQUIT\r\n")
        connection.receive_data(b"")
        for reply in (b"250 2.0.0 Ok\r\n", b"221 2.0.0 Bye\r\n"):
            assert connection.next_event() not in {NEED_DATA, PAUSED}
            assert connection.send() == reply
        assert connection.closed

    def test_no_event_follows_the_end(self) -> None:
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


@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
def test_a_removed_extension_is_refused_from_the_first_command(verb: str) -> None:
    dialogue = Dialogue(removed_capabilities=frozenset({"SIZE", "8BITMIME"}))
    dialogue.says(f"{verb} client.example")
    for parameter in ("SIZE=1", "BODY=8BITMIME"):
        [answer] = dialogue.says(f"MAIL FROM:<a@example.org> {parameter}")
        assert answer == f"555 5.5.4 Unsupported parameter: {parameter.partition('=')[0]}"
