"""The results of earlier commands: when they hold, and when they are discarded."""

from smtp_dialogue import ENVELOPE, Dialogue, codes, greeted

from triosmtp.smtp import (
    Reply,
)


class TestSMTPUTF8:
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


class TestSTARTTLS:
    def test_data_from_before_the_reset_is_forgotten(self) -> None:
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

    def test_inside_implicit_tls(self) -> None:
        assert Dialogue(tls=True).says("STARTTLS", "MAIL FROM:<>") == [
            "503 5.5.1 TLS is already active", "250 2.1.0 Sender ok",
        ]  # fmt: skip


def test_smtputf8_ends_with_its_transaction() -> None:
    dialogue = Dialogue()
    dialogue.says("EHLO x")
    for end in ("RSET", "EHLO x"):
        lines = dialogue.says("MAIL FROM:<> SMTPUTF8", end, "MAIL FROM:<>", "RCPT TO:<\u00fc@example.org>", "RSET")
        assert [line[:3] for line in lines if line[3] == " "] == ["250", "250", "250", "553", "250"]
