"""The actions of a Postfix policy service, as a policy of the chain."""

import logging
from pathlib import Path

import pytest
from filter_session import begun, conf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyd_service import PolicydService, action, policyd_service, raw

import triosmtp
from triosmtp.event import MessageAccepted, PolicyFallback, Refused
from triosmtp.filters.policyd_policy import MAX_PREPENDED
from triosmtp.testing import open_memory_server

BODY = b"Subject: x\r\n\r\nhello\r\n"
PHASES = "connect ehlo mailfrom rcptto data data_spool"


async def reply_to_rcpt(service: PolicydService, recipient: str = "you@example.com") -> str:
    async with open_memory_server(conf(service)) as server:
        client = await begun(server)
        await client.command("MAIL FROM:<a@example.org>")
        return str(await client.command(f"RCPT TO:<{recipient}>"))


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("DUNNO", "250 2.1.5 Recipient ok"),
        ("", "250 2.1.5 Recipient ok"),
        ("OK", "250 2.1.5 Recipient ok"),
        ("PERMIT", "250 2.1.5 Recipient ok"),
        ("INFO hello", "250 2.1.5 Recipient ok"),
        ("WARN hello", "250 2.1.5 Recipient ok"),
        ("DISCARD", "250 2.1.5 Recipient ok"),
        ("DEFER_IF_REJECT later", "250 2.1.5 Recipient ok"),
        ("PREPEND X-A: b", "250 2.1.5 Recipient ok"),
        ("PREPEND no colon", "250 2.1.5 Recipient ok"),
        ("PREPEND X A: b", "250 2.1.5 Recipient ok"),
        ("REJECT", "554 5.7.1 <you@example.com>: Recipient address rejected: Access denied"),
        ("REJECT 5.1.1 No", "554 5.1.1 <you@example.com>: Recipient address rejected: No"),
        ("DEFER", "450 4.7.1 <you@example.com>: Recipient address rejected: Access denied"),
        ("DEFER_IF_PERMIT 4.2.0 Grey", "450 4.2.0 <you@example.com>: Recipient address rejected: Grey"),
        ("550 5.7.23 SPF", "550 5.7.23 <you@example.com>: Recipient address rejected: SPF"),
        ("452 Full", "452 4.7.1 <you@example.com>: Recipient address rejected: Full"),
        ("HOLD", "451 4.3.5 Server configuration error"),
        ("FILTER smtp:host", "451 4.3.5 Server configuration error"),
        ("SURPRISE", "451 4.3.5 Server configuration error"),
        ("REDIRECT me@elsewhere.example", "451 4.3.5 Server configuration error"),
        ("REDIRECT postmaster", "451 4.3.5 Server configuration error"),
        ("REDIRECT a b", "451 4.3.5 Server configuration error"),
        ("BCC me@elsewhere.example", "451 4.3.5 Server configuration error"),
        ("BCC me@example.com", "250 2.1.5 Recipient ok"),
        ("REDIRECT <me@example.com>", "250 2.1.5 Recipient ok"),
    ],
)
async def test_each_action_has_its_reply_at_rcpt(answer: str, reply: str) -> None:
    with policyd_service(answer) as service:
        assert await reply_to_rcpt(service) == reply


@pytest.mark.parametrize("answer", ["OK", "DUNNO", "DEFER_IF_PERMIT x", "DISCARD"])
async def test_no_action_waives_the_relay_rules(answer: str) -> None:
    with policyd_service(answer) as service:
        assert await reply_to_rcpt(service, "you@elsewhere.example") == "550 5.7.1 relaying denied"


async def test_defer_if_reject_makes_a_later_permanent_refusal_temporary() -> None:
    with policyd_service("DEFER_IF_REJECT 4.7.0 later") as service:
        reply = await reply_to_rcpt(service, "you@elsewhere.example")
        assert reply == "450 4.7.0 <you@elsewhere.example>: Recipient address rejected: later"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600))
async def test_hostile_text_stays_in_one_line_of_the_reply(text: bytes) -> None:
    with policyd_service(raw(b"action=REJECT " + text + b"\n\n")) as service:
        async with open_memory_server(conf(service)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            await client.send(b"RCPT TO:<you@example.com>\r\nNOOP\r\n")
            reply, after = await client.read(), await client.read()
            assert reply.code in {451, 554}
            assert len(reply.text) < 512
            assert reply.text.isascii()
            assert reply.text.isprintable()
            assert str(after) == "250 2.0.0 Ok"


async def test_prepended_fields_are_bounded_and_belong_to_one_message() -> None:
    with policyd_service("PREPEND X-Policy: a b") as service:
        async with open_memory_server(conf(service)) as server:
            client = await begun(server)
            many = [f"u{number}@example.com" for number in range(MAX_PREPENDED + 3)]
            assert (await client.message("a@example.org", many, BODY)).code == 250
            service.answer = action("DUNNO")
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
            assert [message.trace.count(b"X-Policy: a b\r\n") for message in server.messages] == [MAX_PREPENDED, 0]


async def test_discard_is_accepted_and_goes_nowhere() -> None:
    with policyd_service("DISCARD") as service:
        async with open_memory_server(conf(service)) as server:
            client = await begun(server)
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
            assert server.messages == []
            accepted = next(event for event in server.events if isinstance(event, MessageAccepted))
            assert accepted.discarded_by == "filter:x"


@pytest.mark.parametrize(
    ("state", "code", "text"),
    [
        ("CONNECT", 554, "<unknown[192.0.2.1]>: Client host rejected: No"),
        ("EHLO", 550, "<client.example.org>: Helo command rejected: No"),
        ("MAIL", 550, "<a@example.org>: Sender address rejected: No"),
        ("RCPT", 550, "<you@example.com>: Recipient address rejected: No"),
        ("DATA", 550, "<DATA>: Data command rejected: No"),
        ("END-OF-MESSAGE", 550, "<END-OF-MESSAGE>: End-of-data rejected: No"),
    ],
)
@pytest.mark.parametrize("conditional", [False, True])
async def test_a_filter_is_asked_at_its_phases(state: str, code: int, text: str, conditional: bool) -> None:
    word = "DEFER_IF_PERMIT" if conditional else "550"
    code = (421 if state == "CONNECT" else 450) if conditional else code

    with policyd_service() as service:
        service.answer = lambda request, connection: action(
            f"{word} No" if ("protocol_state", state) in request else "DUNNO"
        )(request, connection)
        async with open_memory_server(conf(service, scope=f"Phases = ( {PHASES} )")) as server:
            client = server.connect()
            replies = [await client.read()]
            for command in (
                "EHLO client.example.org",
                "MAIL FROM:<a@example.org>",
                "RCPT TO:<you@example.com>",
                "DATA",
            ):
                if replies[-1].code < 400:
                    replies.append(await client.command(command))
            if replies[-1].code == 354:
                await client.send(BODY + b".\r\n")
                replies.append(await client.read())
            assert replies[-1].code == code
            assert replies[-1].text.endswith(text)
            told = [event for event in server.events if isinstance(event, Refused)]
            assert [each.decided_by for each in told] == ([] if state == "END-OF-MESSAGE" else ["filter:x"])
            assert [dict(each)["protocol_state"] for each in service.requests][-1] == state


REFUSES = """
from triosmtp import Policy, Reject

class No(Policy):
    async def validate_rcptto(self, session, recipient, parameters):
        raise Reject(550, "5.7.1", "python says no")
"""


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("DUNNO", "550 5.7.1 python says no"),
        ("OK", "250 2.1.5 Recipient ok"),
        ("DEFER_IF_PERMIT x", "550 5.7.1 python says no"),
        ("DEFER_IF_REJECT x", "450 4.7.1 <you@example.com>: Recipient address rejected: x"),
    ],
)
async def test_a_filter_stands_in_the_chain_with_other_policies(answer: str, reply: str, tmp_path: Path) -> None:
    (tmp_path / "refusing.py").write_text(REFUSES)
    with policyd_service(answer) as service:
        text = conf(service).replace('"filter:x"', f'"{service.address}" "python:refusing:No"', 1)
        async with open_memory_server(triosmtp.parse_config(text, folder=tmp_path)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            assert str(await client.command("RCPT TO:<you@example.com>")) == reply


@pytest.mark.parametrize(
    ("fallback", "code"), [("", 451), ('Policy_Fallback = "continue"', 250), ('Policy_Fallback = "reject"', 550)]
)
async def test_without_an_answer_the_fallback_applies_and_is_told(fallback: str, code: int) -> None:
    with policyd_service() as service:
        service.stop()
        async with open_memory_server(conf(service, scope=fallback)) as server:
            client = await begun(server)
            await client.command("MAIL FROM:<a@example.org>")
            assert (await client.command("RCPT TO:<you@example.com>")).code == code
            event = next(event for event in server.events if isinstance(event, PolicyFallback))
            assert (event.group, event.phase) == ("filter:x", "rcptto")
            assert "cannot connect" in event.failure
            assert [each["fallbacks"] for each in server.service.hub.groups()] == [1]


async def test_warn_and_unknown_actions_are_logged_with_the_filter(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "triosmtp.policy"):
        for answer in ("WARN be\u2028ware", "HOLD"):
            with policyd_service(answer) as service:
                await reply_to_rcpt(service)
    assert "filter:x at rcptto: WARN 'be\\u2028ware'" in caplog.text
    assert "filter:x at rcptto: HOLD is not available" in caplog.text


@pytest.mark.parametrize("phase", ["mailfrom", "rcptto", "data", "data_spool"])
async def test_a_held_message_goes_to_the_delivery_of_hold_to(phase: str, tmp_path: Path) -> None:
    with policyd_service("HOLD suspicious") as service:
        text = conf(service, scope=f"Phases = ( {phase} ) Hold_To = held")
        text += f' Delivery "held" {{ Deliver_To = "maildir:{tmp_path}/held" }}'
        async with open_memory_server(text) as server:
            client = await begun(server)
            assert (await client.message("a@example.org", ["you@example.com"], BODY)).code == 250
            assert server.messages == []
    [held] = (tmp_path / "held/new").iterdir()
    assert held.read_bytes().endswith(b"Subject: x\n\nhello\n")


async def test_nothing_can_be_held_before_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with policyd_service("HOLD") as service:
        text = conf(service, scope="Phases = ( ehlo ) Hold_To = held") + ' Delivery "held" { Deliver_To = "discard:" }'
        async with open_memory_server(text) as server:
            client = server.connect()
            await client.read()
            assert (await client.command("EHLO client.example")).code == 451
    assert "HOLD needs a message" in caplog.text
