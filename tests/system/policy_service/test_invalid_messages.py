"""Answers and messages of clients that are invalid."""

import pytest
import trio
import trio.testing
from policy_stage import decider, open_stage

from triosmtp.event import PolicyFallback
from triosmtp.policy_client import (
    PolicyRequest,
)


@pytest.mark.parametrize(
    "result",
    [
        "accept", [], {}, {"decision": "yes"}, {"decision": "reject", "text": "a\r\n250 ok"},
        {"decision": "reject", "text": "x" * 100_000}, {"decision": "continue", "set": {"connection": {"tls": "on"}}},
        {"decision": "continue", "add_headers": [["X", "a\r\nY: b"]]},
    ],
)  # fmt: skip
async def test_an_invalid_answer_causes_the_fallback(result: object) -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.decider("mailfrom")
        session = await stage.hello()
        await session.send(b"MAIL FROM:<>\r\n")
        question = await raw.read()
        await raw.send(id=question["id"], result=result)
        assert str(await session.read()) == "451 4.3.0 Local error in processing"
        assert "cannot be applied" in next(e.failure for e in stage.server.events if isinstance(e, PolicyFallback))
        assert stage.hub.groups()[0]["invalid"] == 1


async def test_an_error_as_the_answer_causes_the_fallback() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("mailfrom")
        async def fail(request: PolicyRequest) -> None:
            raise RuntimeError("broken")

        await stage.attach(client)
        session = await stage.hello()
        assert str(await session.command("MAIL FROM:<>")).startswith("451 4.3.0")


async def test_a_client_cannot_answer_the_question_of_another(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        honest, thief = await stage.raw(), await stage.raw()
        await honest.decider("mailfrom", name="honest")
        await thief.decider("rcptto", name="thief")
        session = await stage.hello()
        await session.send(b"MAIL FROM:<>\r\n")
        question = await honest.read()
        await thief.answer(question, decision="reject", text="stolen")
        error = await thief.read()
        assert error["id"] is None
        assert "is open for this client" in error["error"]["message"]
        await honest.answer(question, decision="continue")
        assert str(await session.read()).startswith("250")


async def test_a_client_is_disconnected_after_20_malformed_messages() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        for number in range(20):
            await raw.text("{" if number % 2 else '{"jsonrpc":"2.0","id":"unknown","result":{}}')
        assert await raw.ended() == 1008


async def test_a_message_that_is_too_large_disconnects_the_client() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.text('"' + "x" * 300_000 + '"')
        assert await raw.ended() == 1009


async def test_a_binary_frame_disconnects_the_client() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.socket.send_message(b"\x00")
        assert await raw.ended() == 1003


async def test_initialize_comes_first_and_only_once() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.send(id=1, method="policy.report")
        assert (await raw.read())["error"]["code"] == -32001
        assert "result" in await raw.initialize()
        assert (await raw.initialize())["error"]["code"] == -32600
        await raw.send(id=2, method="session.steal")
        assert (await raw.read())["error"]["code"] == -32601
