"""ESMTP parameters: accepted if they are offered and well-formed, else refused by name."""

import pytest
from smtp_dialogue import Dialogue, codes, greeted

from triosmtp.message import Envelope, Recipient
from triosmtp.smtp import (
    Address,
    MailFrom,
    RcptTo,
    decode_orcpt,
    decode_xtext,
)

EVERY = frozenset({"CHUNKING", "BINARYMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"})
JOE = Address("joe", "example.com")


def said(command: str, *, extensions: frozenset[str] = EVERY, tls: bool = True) -> tuple[str, object]:
    dialogue = Dialogue(tls=tls, extensions=extensions)
    dialogue.says("EHLO x", *(["MAIL FROM:<a@b.example> SMTPUTF8"] if command.startswith("RCPT") else []))
    [line] = dialogue.says(command)
    return line, dialogue.events[-1]


@pytest.mark.parametrize(
    "parameter",
    [
        "RET=FULL", "RET=HDRS", "ENVID=a+2Bb+3D", "REQUIRETLS", "BY=120;R", "BY=-5;NT", "BY=+9;N", "MT-PRIORITY=-9",
        "MT-PRIORITY=0", "HOLDFOR=3600", "HOLDUNTIL=2030-01-31T12:00:00Z", "HOLDUNTIL=2030-01-31T12:00:00+01:00",
        "BODY=BINARYMIME", "ENVID=" + "x" * 100,
    ],
)  # fmt: skip
def test_mail_parameters(parameter: str) -> None:
    line, event = said(f"MAIL FROM:<a@b.example> {parameter}")
    assert line.startswith("250")
    assert isinstance(event, MailFrom)
    keyword, _, value = parameter.partition("=")
    assert event.parameters == {keyword: value.replace("+9;", "9;") or None}
    line, _ = said(f"MAIL FROM:<a@b.example> {parameter}", extensions=frozenset())
    assert line[:3] == ("501" if keyword == "BODY" else "555")
    assert (keyword in line) == (keyword != "RET" or line[:3] == "555")


@pytest.mark.parametrize(
    "parameter",
    [
        "RET", "RET=BOTH", "ENVID", "ENVID=a+2b", "ENVID=a+", "ENVID=" + "x" * 101, "ENVID=\u00fc", "REQUIRETLS=YES",
        "ENVID=a+00", "ENVID=a+0D+0AX", "ENVID=a+7F", "ENVID=a+C3+BC",
        "RET=HDR\u017f", "BODY=8B\u0131TMIME", "BODY=7b\u0131t",
        "BY", "BY=1", "BY=0;R", "BY=-1;R", "BY=1;X", "BY=1234567890;N", "MT-PRIORITY", "MT-PRIORITY=10",
        "MT-PRIORITY=+1", "MT-PRIORITY=-0", "HOLDFOR=0", "HOLDFOR=99999999", "HOLDFOR=x", "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2030-01-31", "HOLDUNTIL=2030-01-31T12:00:00",
        "HOLDUNTIL=2030-W05-4T12Z",
        "HOLDUNTIL=20300131T120000Z",
               "HOLDUNTIL=2030-02-30T12:00:00Z", "HOLDUNTIL=9999-12-31T23:59:59-12:00",
        "HOLDFOR=1 HOLDUNTIL=2030-01-31T12:00:00Z",
        "BODY=BINARY",
    ],
)  # fmt: skip
def test_mail_parameters_that_are_wrong(parameter: str) -> None:
    line, _ = said(f"MAIL FROM:<a@b.example> {parameter}")
    assert line.startswith("501 5.5.4 ")


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=FAILURE,DELAY,SUCCESS", "ORCPT=rfc822;joe+2Bx@example.com",
        "ORCPT=utf-8;j\u00f6@example.com", r"ORCPT=utf-8;j\x{F6}@example.com", "ORCPT=x400;a",
    ],
)  # fmt: skip
def test_rcpt_parameters(parameter: str) -> None:
    line, event = said(f"RCPT TO:<a@b.example> {parameter}")
    assert line.startswith("250")
    assert isinstance(event, RcptTo)
    assert event.parameters == {parameter.partition("=")[0]: parameter.partition("=")[2]}
    line, _ = said(f"RCPT TO:<a@b.example> {parameter}", extensions=EVERY - {"DSN"})
    assert line == f"555 5.5.4 Unsupported parameter: {parameter.partition('=')[0]}"


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=SUCCESS,SUCCESS", "NOTIFY=SOON", "NOTIFY=,",
        "ORCPT=rfc822", "ORCPT=;a", "ORCPT=rfc822;", "ORCPT=rfc822;\u00fc", "ORCPT=rfc822;" + "x" * 500,
        r"ORCPT=utf-8;\x{D800}",
        r"ORCPT=utf-8;\x{0A}", r"ORCPT=utf-8;\x{00}", r"ORCPT=utf-8;\x{7F}", r"ORCPT=utf-8;\x{85}",
        "ORCPT=rfc822;a+00b", "ORCPT=rfc822;a+0D+0Ab", "ORCPT=rfc822;a+7F", "ORCPT=rfc822;+FF",
        "NOTIFY=\u017fUCCESS", "NOTIFY=FA\u0131LURE",
        r"ORCPT=utf-8;\x{110000}", r"ORCPT=utf-8;\n", "ORCPT=a b;c",
    ],
)  # fmt: skip
def test_rcpt_parameters_that_are_wrong(parameter: str) -> None:
    line, _ = said(f"RCPT TO:<a@b.example> {parameter}")
    assert line.startswith("501 5.5.4 ")


def test_requiretls_needs_tls() -> None:
    line, _ = said("MAIL FROM:<a@b.example> REQUIRETLS", tls=False)
    assert line == "555 5.5.4 Unsupported parameter: REQUIRETLS"


def test_smtputf8_of_rcpt_is_none() -> None:
    dialogue = Dialogue()
    dialogue.says("EHLO x", "MAIL FROM:<a@b.example>")
    assert dialogue.says("RCPT TO:<a@b.example> SMTPUTF8") == ["555 5.5.4 Unsupported parameter: SMTPUTF8"]
    assert dialogue.says("RCPT TO:<\u00fc@b.example>")[0].startswith("553 5.6.7")


def test_the_values_of_an_envelope() -> None:
    envelope = Envelope(
        JOE,
        {
            "RET": "HDRS",
            "ENVID": "a+2Bb+FF",
            "REQUIRETLS": None,
            "BY": "-5;NT",
            "MT-PRIORITY": "-3",
            "BODY": "8BITMIME",
        },
    )
    assert (envelope.ret, envelope.envid, envelope.requiretls) == ("HDRS", "a+b\ufffd", True)
    assert (envelope.deliver_by, envelope.priority, envelope.body_type) == ((-5, "N", True), -3, "8BITMIME")
    plain = Envelope(JOE)
    assert (plain.ret, plain.envid, plain.requiretls, plain.deliver_by) == (None, None, False, None)
    assert (plain.priority, plain.body_type) == (0, "7BIT")
    recipient = Recipient(JOE, {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;j+2Boe@example.com"})
    assert recipient.notify == {"SUCCESS", "DELAY"}
    assert recipient.original == ("rfc822", "j+oe@example.com")
    assert (Recipient(JOE, {}).notify, Recipient(JOE, {}).original) == (frozenset(), None)
    assert decode_orcpt(r"UTF-8;\x{F6}x") == ("utf-8", "\u00f6x")
    with pytest.raises(ValueError, match="not xtext"):
        decode_xtext("+2")


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
