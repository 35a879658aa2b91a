"""One message at a next hop: what it is asked at RCPT, what is delivered after the body, what is tried again."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_hop import (
    CLOSE,
    EXTENSIONS,
    ORIGIN,
    SILENCE,
    Accepted,
    ScriptedHop,
    connected,
    envelope,
    message,
    origin,
)

from triosmtp.delivery import RecipientResult
from triosmtp.message import Recipient
from triosmtp.next_hop.hop_settings import HopTimeouts
from triosmtp.smtp import Address

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
A, B, C = (Recipient(Address(name, "example.com"), {}) for name in "abc")
LATER = (451, "4.3.0", "Temporary failure, please try again later")


def told(result: RecipientResult) -> tuple[int, str, str]:
    return result.code, result.enhanced, result.text


def without_hello(hop: ScriptedHop) -> list[list[str]]:
    return [[each for each in session if not each.startswith(("EHLO", "LHLO"))] for session in hop.sessions]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_the_open_transaction_is_used(tmp_path: Path, pipelining: bool) -> None:
    hop = ScriptedHop({"RCPT b@example.com": "550 5.1.1 No such user"}, extensions=EXTENSIONS[not pipelining :])
    async with connected(tmp_path, hop) as (delivery, health):
        transaction = delivery.begin(envelope(), ORIGIN)
        assert told(await transaction.verify(A)) == (250, "2.1.5", "Ok")
        assert told(await transaction.verify(B)) == (550, "5.1.1", "No such user")
        assert told(await transaction.verify(C))[0] == 250
        results = await transaction.deliver_each(message("a@example.com", "c@example.com"))
        transaction.close()
    assert [told(each) for each in results] == [(250, "2.0.0", "Ok: queued as 7F")] * 2
    assert without_hello(hop) == [[
        "MAIL FROM:<a@example.org>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>",
        "DATA", "QUIT",
    ]]  # fmt: skip
    received = Accepted(
        "a@example.org", ["a@example.com", "c@example.com"], b"Received: x\r\nSubject: x\r\n\r\ntext\r\n"
    )
    assert hop.messages == [received]
    assert health.failing_since is None


CHANGED: dict[str, Any] = {
    "sender": {"sender": "other@example.org"},
    "null sender": {"sender": ""},
    "parameters": {"parameters": {"BODY": "8BITMIME"}},
}


@pytest.mark.parametrize("change", CHANGED)
async def test_a_plan_that_differs_opens_the_transaction_anew(tmp_path: Path, change: str) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        await transaction.deliver_each(message("a@example.com", **CHANGED[change]))
    assert without_hello(hop)[0][2] == "RSET"
    assert len(hop.messages) == 1
    assert hop.messages[0].sender == CHANGED[change].get("sender", "a@example.org")


async def test_other_recipients_open_it_anew_and_a_refusal_counts_as_one_after_the_body(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT c@example.com": "550 5.1.1 No such user"})
    async with connected(tmp_path, hop) as (delivery, _):
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        await transaction.verify(B)
        results = await transaction.deliver_each(message("b@example.com", "c@example.com"))
    assert [each.code for each in results] == [250, 550]
    assert hop.messages[0].recipients == ["b@example.com"]
    assert len(hop.sessions) == 1


async def test_variants_are_delivered_one_after_the_other(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        await transaction.verify(B)
        for name in ("a", "b"):
            await transaction.deliver_each(message(f"{name}@example.com", body=name.encode() + b": 1\r\n"))
    assert [each.recipients for each in hop.messages] == [["a@example.com"], ["b@example.com"]]
    assert [each.data[-6:] for each in hop.messages] == [b"a: 1\r\n", b"b: 1\r\n"]


async def test_without_verification_all_happens_after_the_body(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com", "b@example.com"))
    assert without_hello(hop) == [
        ["MAIL FROM:<a@example.org> SIZE=33", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "DATA", "QUIT"]
    ]


async def test_lmtp_has_a_result_for_each_recipient(tmp_path: Path) -> None:
    hop = ScriptedHop(
        {
            "RCPT b@example.com": "550 5.1.1 No",
            "end c@example.com": "452 4.2.2 Full",
            "end d@example.com": "552 5.2.2 No",
        },
        lmtp=True,
    )
    async with connected(tmp_path, hop) as (delivery, _):
        recipients = [f"{name}@example.com" for name in "abcd"]
        results = await delivery.begin(envelope(), ORIGIN).deliver_each(message(*recipients))
    assert [(each.code, each.enhanced) for each in results] == [
        (250, "2.0.0"), (550, "5.1.1"), (452, "4.2.2"), (552, "5.2.2"),
    ]  # fmt: skip
    assert hop.messages[0].recipients == ["a@example.com"]
    assert hop.sessions[0][0] == "LHLO mx.example.com"


async def test_nobody_accepted_sends_no_data(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT": "550 5.1.1 No"})
    async with connected(tmp_path, hop) as (delivery, _):
        results = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        assert [each.code for each in results] == [550]
        hop.answers.clear()
        results = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        assert [each.code for each in results] == [250]
    assert "RSET" in hop.sessions[0]
    assert len(hop.sessions) == 1


# Whose answer


STEPS = ["banner", "EHLO", "MAIL", "RCPT", "DATA", "end"]
PASSED_ON = {"MAIL", "RCPT", "end"}
ANSWERS = [
    "421 4.3.2 Shutting down", "450 4.2.1 Greylisted", "451 4.3.0 Later", "452 4.3.1 Full", "500 5.5.2 Syntax",
    "501 5.5.4 Bad", "502 5.5.1 No", "503 5.5.1 No", "504 5.5.4 No", "530 5.7.0 Authenticate", "534 5.7.9 Weak",
    "535 5.7.8 Wrong password", "538 5.7.11 TLS first", "550 5.7.1 Denied", "552 5.3.4 Too big", "553 5.1.8 No",
    "554 5.7.1 Go away", "555 5.5.4 What", "354 Go on", "nonsense", "250-x\r\n550 y", "2500 x", "",
]  # fmt: skip
FAULTS = {"421", "500", "501", "502", "503", "504", "530", "534", "535", "538", "555", "354", "250", "non", ""}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_whose_answer(tmp_path: Path, step: str, answer: str) -> None:
    if step == "DATA" and answer.startswith("354"):
        pytest.skip("that is the right answer")
    hop = ScriptedHop({step: answer})
    async with connected(tmp_path, hop) as (delivery, health):
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert not hop.messages or step == "end"
    if step in PASSED_ON and answer[:3] not in FAULTS:
        code, enhanced, text = answer.split(" ", 2)
        assert told(result) == (int(code), enhanced, text)
        assert health.failing_since is None
    else:
        assert told(result) == LATER
        assert health.failing_since is not None
        words = answer.partition("\r")[0] if answer.count("\r") == 0 else "two codes"
        assert words in result.reason, "the log has the hop's words"
    assert result.reason.isprintable()


LINES = st.lists(
    st.one_of(
        st.sampled_from(["250 Ok", "250-more", "354 Go", "550 5.1.1 No", "421 bye", "2", "", "2\x00", "\udcff\udc80"]),
        st.text(alphabet=st.characters(codec="latin-1"), max_size=20),
    ),
    min_size=1, max_size=4,
).map("\r\n".join)  # fmt: skip


@settings(max_examples=200 if JUDGE else 40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.sampled_from(STEPS), answer=LINES, lmtp=st.booleans())
def test_a_hostile_hop_never_makes_mail_vanish(tmp_path: Path, step: str, answer: str, lmtp: bool) -> None:
    """A message counts as delivered only if the hop said so after it."""

    async def run() -> None:
        timeouts = HopTimeouts(connect=0.05, ehlo=0.05, mail=0.05, rcpt=0.05, body=0.05)
        hop = ScriptedHop({step: answer}, lmtp=lmtp)
        async with connected(tmp_path, hop, timeouts=timeouts, max_connections=1) as (delivery, health):
            transaction = delivery.begin(envelope(), ORIGIN)
            verified = await transaction.verify(A)
            assert 200 <= verified.code < 600
            (result,) = await transaction.deliver_each(message("a@example.com"))
            transaction.close()
            assert 200 <= result.code < 600
            assert (result.text + result.reason).isprintable()
            if result.is_delivered:
                assert "DATA" in hop.commands
                assert re.search("(?:^|\n)2[0-9]{2}(?:[ \r]|$)", answer) or hop.messages
            assert health.connections <= 1

    trio.run(run)


async def test_an_answer_of_several_lines_is_one_line_for_the_client(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT": "550-5.1.1 No such\x07\r\n550-5.1.1 user\u2028here\r\n550 5.1.1 " + "x" * 900})
    async with connected(tmp_path, hop) as (delivery, _):
        result = await delivery.begin(envelope(), ORIGIN).verify(A)
    assert result.enhanced == "5.1.1"
    assert result.text.startswith("No such? user?here xxx")
    assert len(result.text) == 480
    assert result.text.isprintable()


async def test_of_an_answer_that_is_too_long_a_part_is_kept_and_logged(tmp_path: Path) -> None:
    """Each recipient of a message may have such an answer."""
    long = f"550-5.1.1 {'x' * 2000}\r\n" * 127 + "550 5.1.1 end"
    hop = ScriptedHop({"RCPT": long, "end": long.replace("550", "451").replace("5.1.1", "4.2.0")}, lmtp=True)
    async with connected(tmp_path, hop) as (delivery, health):
        result = await delivery.begin(envelope(), ORIGIN).verify(A)
        assert (result.code, len(result.text)) == (550, 480)
        assert len(result.reason) < 2100
        hop.answers["RCPT"] = "250 Ok"
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        assert (result.code, result.enhanced, len(result.text)) == (451, "4.2.0", 480)
        assert len(result.reason) < 2100
        hop.answers["MAIL"] = long.replace("550", "421")
        await delivery.begin(envelope(), ORIGIN).verify(A)
    assert len(health.reason) < 2200


async def test_an_enhanced_code_of_another_class_is_dropped(tmp_path: Path) -> None:
    async with connected(tmp_path, ScriptedHop({"RCPT": "550 4.1.1 No"})) as (delivery, _):
        assert told(await delivery.begin(envelope(), ORIGIN).verify(A)) == (550, "", "No")


# Hops that go away


async def test_an_idle_connection_that_has_ended_is_replaced(tmp_path: Path) -> None:
    hop = ScriptedHop({"RSET": CLOSE, "end": ["250 Ok"]})
    async with connected(tmp_path, hop) as (delivery, _):
        for _ in range(2):
            (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            assert result.code == 250
            hop.answers["RCPT"] = ["550 no", "250 ok"]
            await delivery.begin(envelope(), ORIGIN).verify(A)  # leaves a transaction, so that RSET is due
    assert len(hop.messages) == 2
    assert len(hop.sessions) > 1


@pytest.mark.parametrize("answer", [CLOSE, "421 4.3.2 Timeout"])
@pytest.mark.parametrize("step", ["RCPT", "DATA", "MAIL"])
async def test_a_used_connection_that_ends_is_replaced_once(tmp_path: Path, step: str, answer: str) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, health):
        await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        hop.answers[step] = [answer, "354 Go" if step == "DATA" else "250 2.1.0 Ok"]
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        assert result.code == 250
        assert len(hop.messages) == 2
        hop.answers[step] = answer
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert told(result) == LATER
    assert len(hop.messages) == 2
    assert len(hop.sessions) == 3
    assert health.failing_since is not None


@pytest.mark.parametrize("lmtp", [False, True])
async def test_nothing_is_sent_twice_after_the_end_of_the_data(tmp_path: Path, lmtp: bool) -> None:
    hop = ScriptedHop(lmtp=lmtp)
    async with connected(tmp_path, hop) as (delivery, _):
        await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        hop.answers["end"] = CLOSE
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert told(result) == LATER
    assert len(hop.sessions) == 1
    assert hop.commands.count("DATA") == 2


async def test_a_hop_that_ends_after_354_may_have_the_message(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        hop.answers["body"] = [CLOSE, ""]
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert told(result) == LATER
    assert len(hop.sessions) == 1


async def test_an_answer_before_the_message_is_none(tmp_path: Path) -> None:
    hop = ScriptedHop({"DATA": "354 Go\r\n250 2.0.0 Ok", "end": SILENCE})
    async with connected(tmp_path, hop) as (delivery, _):
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert told(result) == LATER
    assert "more than one reply" in result.reason
    assert not hop.messages


async def test_a_new_connection_that_ends_is_not_replaced(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT": [CLOSE, "250 Ok"]})
    async with connected(tmp_path, hop) as (delivery, _):
        assert told(await delivery.begin(envelope(), ORIGIN).verify(A)) == LATER
    assert len(hop.sessions) == 1


async def test_a_connection_that_was_idle_and_ends_is_replaced(tmp_path: Path) -> None:
    """The first one of a server is opened before its first message."""
    hop = ScriptedHop({"MAIL": [CLOSE, "250 Ok"]})
    async with connected(tmp_path, hop) as (delivery, health):
        assert await delivery.probe() == ""
        assert (await delivery.begin(envelope(), ORIGIN).verify(A)).code == 250
    assert len(hop.sessions) == 2
    assert health.failing_since is None


async def test_a_hop_that_closes_after_the_message_is_not_used_again(tmp_path: Path) -> None:
    hop = ScriptedHop({"end": ["421 4.3.2 Closing", "250 Ok"]})
    async with connected(tmp_path, hop) as (delivery, _):
        for code in (451, 250):
            (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            assert result.code == code
    assert len(hop.sessions) == 2


async def test_lmtp_that_ends_between_its_answers(tmp_path: Path) -> None:
    hop = ScriptedHop({"end b@example.com": CLOSE}, lmtp=True)
    async with connected(tmp_path, hop) as (delivery, health):
        transaction = delivery.begin(envelope(), ORIGIN)
        results = await transaction.deliver_each(message("a@example.com", "b@example.com", "c@example.com"))
    assert [each.code for each in results] == [250, 451, 451]
    assert health.failing_since is not None


@pytest.mark.parametrize("step", STEPS)
async def test_a_hop_that_says_nothing(tmp_path: Path, step: str) -> None:
    timeouts = HopTimeouts(connect=0.05, ehlo=0.05, mail=0.05, rcpt=0.05, body=0.05)
    hop = ScriptedHop({step: SILENCE})
    async with connected(tmp_path, hop, timeouts=timeouts) as (delivery, health):
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert told(result) == LATER
    assert "in time" in result.reason
    assert health.failing_since is not None
    assert len(hop.sessions) == 1, "a hop that is slow is not asked twice"


async def test_a_cancelled_delivery_leaves_no_complete_message(tmp_path: Path) -> None:
    hop = ScriptedHop({"DATA": SILENCE})
    async with connected(tmp_path, hop) as (delivery, _):
        with trio.move_on_after(0.05):
            await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
    assert not hop.messages


# What the hop lacks


async def test_what_a_hop_lacks(tmp_path: Path) -> None:
    hop = ScriptedHop(extensions=("SIZE 100",))
    async with connected(tmp_path, hop) as (delivery, _):
        begin = delivery.begin
        utf8 = Recipient(Address("\u00fc", "example.com"), {})
        assert told(await begin(envelope(), ORIGIN).verify(utf8))[:2] == (553, "5.6.7")
        assert told(await begin(envelope(parameters={"SMTPUTF8": None}), ORIGIN).verify(A))[:2] == (553, "5.6.7")
        assert told(await begin(envelope(parameters={"SIZE": "101"}), ORIGIN).verify(A))[:2] == (552, "5.3.4")
        (result,) = await begin(envelope(), ORIGIN).deliver_each(message("a@example.com", body=b"x: " + b"y" * 99))
        assert told(result)[:2] == (552, "5.3.4")
        (result,) = await begin(envelope(), ORIGIN).deliver_each(message("a@example.com", body=b"x: \xfc\r\n"))
        assert told(result)[:2] == (554, "5.6.3")
        eight = message("a@example.com", parameters={"BODY": "8BITMIME"})
        assert (await begin(envelope(parameters={"BODY": "8BITMIME"}), ORIGIN).deliver_each(eight))[0].code == 250
        for name, value in {"RET": "HDRS", "BY": "9;N", "MT-PRIORITY": "1"}.items():
            assert (await begin(envelope(parameters={name: value}), ORIGIN).verify(A)).code == 451
        assert told(await begin(envelope(parameters={"REQUIRETLS": None}), ORIGIN).verify(A))[:2] == (550, "5.7.30")
    assert [each for each in hop.commands if each.startswith("MAIL")] == ["MAIL FROM:<a@example.org> SIZE=33"]


async def test_parameters_are_passed_on(tmp_path: Path) -> None:
    hop = ScriptedHop(extensions=(*EXTENSIONS, "DSN", "DELIVERBY", "MT-PRIORITY", "CHUNKING", "BINARYMIME"))
    async with connected(tmp_path, hop) as (delivery, _):
        parameters = {"RET": "HDRS", "ENVID": "x", "BY": "9;N", "MT-PRIORITY": "1", "AUTH": "<>", "SMTPUTF8": None}
        transaction = delivery.begin(envelope(parameters=parameters), ORIGIN)
        await transaction.verify(Recipient(Address("a", "example.com"), {"NOTIFY": "NEVER", "ORCPT": "rfc822;a@b"}))
        assert delivery.honours == {"DSN", "DELIVERBY", "MT-PRIORITY", "BINARYMIME"}
        transaction.close()
        await delivery.begin(envelope(), ORIGIN).deliver_each(
            message("a@example.com", parameters={"BODY": "BINARYMIME"}, body=b"x: 1\r\n\r\n\n.\n\r\0")
        )
    assert hop.commands[1:3] == [
        "MAIL FROM:<a@example.org> SMTPUTF8 RET=HDRS ENVID=x BY=9;N MT-PRIORITY=1",
        "RCPT TO:<a@example.com> NOTIFY=NEVER ORCPT=rfc822;a@b",
    ]
    assert hop.messages[0].data == b"Received: x\r\nx: 1\r\n\r\n\n.\n\r\0", "as it is"
    assert "BDAT 26 LAST" in hop.commands


async def test_a_hostile_address_of_a_policy(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        hostile = Recipient(Address("a", "example.com", "a@example.com>\r\nDATA\r\n<x"), {})
        assert (await delivery.begin(envelope(), ORIGIN).verify(hostile)).code == 451
    assert "DATA" not in hop.commands


# XFORWARD and XCLIENT


async def test_xforward_if_offered(tmp_path: Path) -> None:
    hop = ScriptedHop(extensions=(*EXTENSIONS, "XFORWARD NAME ADDR PORT PROTO HELO SOURCE"))
    async with connected(tmp_path, hop) as (delivery, _):
        await delivery.begin(envelope(), origin("2001:db8::1")).verify(A)
    assert hop.commands[1:3] == [
        "XFORWARD NAME=client.example ADDR=IPV6:2001:db8::1 PORT=2525 PROTO=ESMTP HELO=helo.example SOURCE=REMOTE",
        "MAIL FROM:<a@example.org>",
    ]


async def test_xclient_only_if_configured_and_anew_for_each_client(tmp_path: Path) -> None:
    extensions = (*EXTENSIONS, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
    hop = ScriptedHop(extensions=extensions)
    async with connected(tmp_path, hop) as (delivery, _):
        await delivery.begin(envelope(), ORIGIN).verify(A)
    assert not any(each.startswith("XCLIENT") for each in hop.commands)
    hop = ScriptedHop(extensions=extensions)
    async with connected(tmp_path, hop, xclient=True) as (delivery, _):
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        transaction.close()
        await delivery.begin(envelope(), origin("192.0.2.7", auth_user="joe")).verify(A)
    assert hop.sessions == [[
        "EHLO mx.example.com",
        "XCLIENT ADDR=192.0.2.1 PORT=2525 NAME=client.example PROTO=ESMTP HELO=helo.example LOGIN=[UNAVAILABLE]",
        "EHLO mx.example.com", "MAIL FROM:<a@example.org>", "RCPT TO:<a@example.com>",
        "RSET",
        "XCLIENT ADDR=192.0.2.7 PORT=2525 NAME=client.example PROTO=ESMTP HELO=helo.example LOGIN=joe",
        "EHLO mx.example.com", "MAIL FROM:<a@example.org>", "RCPT TO:<a@example.com>", "QUIT",
    ]]  # fmt: skip


async def test_a_hop_that_takes_one_client_on_a_connection(tmp_path: Path) -> None:
    """Postfix judges the right to use XCLIENT by the announced client."""
    hop = ScriptedHop(extensions=(*EXTENSIONS, "XCLIENT ADDR"))
    hello = ["250-hop.example\r\n250-PIPELINING\r\n250 XCLIENT ADDR", "250-hop.example\r\n250 PIPELINING"] * 3
    hop.answers["EHLO"] = hello
    async with connected(tmp_path, hop, xclient=True, max_connections=1) as (delivery, health):
        first, second = (delivery.begin(envelope(), origin(f"192.0.2.{number}")) for number in (1, 2))
        await first.verify(A)
        await first.deliver_each(message("b@example.com"))
        await second.verify(A)
        await second.deliver_each(message("a@example.com"))
        assert health.connections == 0
    assert [[each[:12] for each in session if each[0] in "XMR"] for session in hop.sessions] == [
        ["XCLIENT ADDR", "MAIL FROM:<a", "RCPT TO:<a@e", "RSET", "MAIL FROM:<a", "RCPT TO:<b@e"],
        ["XCLIENT ADDR", "MAIL FROM:<a", "RCPT TO:<a@e"],
    ]
    assert len(hop.messages) == 2


@pytest.mark.parametrize("answers", [{}, {"XCLIENT": "550 5.7.0 Insufficient authorization"}])
async def test_xclient_that_is_not_possible_is_our_fault(tmp_path: Path, answers: dict[str, str]) -> None:
    hop = ScriptedHop(answers, extensions=(*EXTENSIONS, *(["XCLIENT ADDR"] if answers else [])))
    async with connected(tmp_path, hop, xclient=True) as (delivery, _):
        result = await delivery.begin(envelope(), ORIGIN).verify(A)
    assert told(result) == LATER
    assert "XCLIENT" in result.reason
