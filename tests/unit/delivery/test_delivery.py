"""The result of a delivery, and the reply to its client."""

from typing import NoReturn

import pytest
from memory_dialogue import conf, hello

from triosmtp import Body, Message, Reject
from triosmtp.policy import PHASES
from triosmtp.testing import open_memory_server


async def test_a_delivery_may_refuse() -> None:
    async def refuse(message: object) -> None:
        raise Reject(554, "5.6.0", "no such format")

    async with open_memory_server(conf(), deliver=refuse) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        assert str(answer) == "554 5.6.0 no such format"


async def test_a_delivery_that_breaks_is_451() -> None:
    async def broken(message: object) -> None:
        raise RuntimeError("secret path")

    async with open_memory_server(conf(), deliver=broken) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")
        assert str(answer)[:9] == "451 4.3.0"
        assert "secret" not in str(answer)
        assert (await client.command("NOOP")).code == 250


@pytest.mark.parametrize("fails", ["make_question", "hub.report_outcome", "MessageAccepted", "observer", "body.close"])
async def test_an_error_after_a_delivery_does_not_change_its_250(
    fails: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_more: object) -> NoReturn:
        raise RuntimeError("broken")

    async def deliver(message: Message) -> None:
        delivered.append(message.id)
        if fails == "body.close":
            monkeypatch.setattr(type(message.body), "close", close_and_fail)

    close = Body.close

    def close_and_fail(body: Body) -> NoReturn:
        close(body)
        raise RuntimeError("broken")

    delivered: list[str] = []
    async with open_memory_server(conf(), deliver=deliver) as server:
        server.service.hub.outcome_phases = frozenset(
            PHASES if fails in {"make_question", "hub.report_outcome"} else ()
        )
        if fails == "make_question":
            monkeypatch.setattr("triosmtp.server.session.policy_phase.make_question", fail)
        elif fails == "hub.report_outcome":
            monkeypatch.setattr(server.service.hub, "report_outcome", fail)
        elif fails == "MessageAccepted":
            monkeypatch.setattr("triosmtp.server.session.transaction.MessageAccepted", fail)
        elif fails == "observer":
            server.service.observers.add(fail)
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        for _ in range(2):
            await client.command("MAIL FROM:<a@example.org>")
            await client.command("RCPT TO:<b@example.com>")
            await client.command("DATA")
            await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            assert (await client.read()).code == 250
        assert (await client.command("QUIT")).code == 221
    assert len(delivered) == 2
    assert any(record.exc_info for record in caplog.records)  # and it is logged
