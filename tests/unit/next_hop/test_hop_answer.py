"""Which answers of a hop are passed on."""

import pytest

from triosmtp.next_hop.hop_answer import deferred, is_our_fault, result_of
from triosmtp.next_hop.hop_error import HopBusyError, HopError
from triosmtp.smtp.reply_parser import ReceivedReply


@pytest.mark.parametrize("code", range(200, 600))
def test_each_code(code: int) -> None:
    reply = ReceivedReply(code, (f"{code // 100}.7.1 text",))
    result = result_of(reply, "RCPT", "hop")
    faulty = code in {421, 500, 501, 502, 503, 504, 530, 534, 535, 538, 555} or code // 100 == 3
    assert is_our_fault(reply, "RCPT") is faulty
    assert result.code == (451 if faulty else code)
    assert result.enhanced == ("4.3.0" if faulty else f"{code // 100}.7.1")
    assert result.reason == ("" if 200 <= code < 300 else f"hop: RCPT: {reply}")
    assert result.answer == ("" if faulty else f"{code} {code // 100}.7.1 text")


@pytest.mark.parametrize(
    ("answer", "passed_on"),
    [
        ("550 5.7.1 Sender denied", True), ("550 5.1.8 Domain not found", True), ("553 5.1.7 Bad address", True),
        ("552 5.3.4 Too big", True), ("552 5.2.3 Too long", True), ("554 5.6.0 No 8-bit", True), ("550 No", True),
        ("552 Too big", True), ("553 No", True), ("554 5.7.1 Spammer", True), ("451 4.3.5 Broken", True),
        ("450 No", True), ("554 Go away", False), ("554 5.3.2 System not accepting", False), ("550 5.5.1 Wrong", False),
        ("550 5.4.6 Loop", False), ("551 No", False), ("556 5.3.0 No", False), ("552 5.3.5 Misconfigured", False),
    ],
)  # fmt: skip
def test_a_refusal_of_mail_must_be_about_sender_or_size(answer: str, passed_on: bool) -> None:
    reply = ReceivedReply(int(answer[:3]), (answer[4:],))
    assert is_our_fault(reply, "MAIL") is not passed_on
    assert not is_our_fault(reply, "RCPT")


def test_errors() -> None:
    assert deferred(HopError("the hop's words")).text == "Temporary failure, please try again later"
    assert deferred(HopError("the hop's words")).reason == "the hop's words"
    assert deferred(HopBusyError("full")).enhanced == "4.3.2"
