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
    assert is_our_fault(reply) is faulty
    assert result.code == (451 if faulty else code)
    assert result.enhanced == ("4.3.0" if faulty else f"{code // 100}.7.1")
    assert result.reason == ("" if 200 <= code < 300 else f"hop: RCPT: {reply}")


def test_errors() -> None:
    assert deferred(HopError("the hop's words")).text == "Temporary failure, please try again later"
    assert deferred(HopError("the hop's words")).reason == "the hop's words"
    assert deferred(HopBusyError("full")).enhanced == "4.3.2"
