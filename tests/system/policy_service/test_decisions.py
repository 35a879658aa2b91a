"""Decisions of deciders, applied to real sessions; websockets in memory."""

from typing import Any

import pytest
import trio
import trio.testing
from policy_stage import BODY, decider, mail, open_stage

from triosmtp import DISCARD, DONE
from triosmtp.event import MessageAccepted, Refused
from triosmtp.policy_client import (
    Decision,
    PolicyClient,
    PolicyRequest,
)


async def test_the_question_and_the_answer_have_the_documented_form() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        raw = await stage.raw()
        params = {"name": "bar", "group": "fraud", "role": "decider", "phases": ["mailfrom"], "variables": ["si*"]}
        await raw.send(id=1, method="initialize", params={**params, "mode": "enforce", "notifications": []})
        answer = await raw.read()
        assert answer["id"] == 1
        assert answer["result"]["protocol"] == "policy.v1.triosmtp"
        client = await stage.hello()
        await client.send(b"MAIL FROM:<a@example.org>\r\n")
        question = await raw.read()
        session = question["params"]["session"]
        assert question["id"].startswith(f"{session}-")
        deadline = question["params"].pop("deadline_ms")
        assert 4000 < deadline <= 5000
        assert question == {
            "jsonrpc": "2.0",
            "id": question["id"],
            "method": "validate_mailfrom",
            "params": {
                "session": session,
                "phase": "mailfrom",
                "peer": "192.0.2.1:1024",
                "listener": ":25",
                "variables": {"site": "a"},
                "message_variables": {},
                "arguments": {"sender": "a@example.org", "parameters": {}},
            },
        }
        result = {"decision": "reject", "code": 550, "enhanced": "5.7.1", "text": "certificate required"}
        await raw.answer(question, **result, set={"connection": {}, "message": {}}, add_headers=[])
        assert str(await client.read()) == "550 5.7.1 certificate required"
        refused = next(event for event in stage.server.events if isinstance(event, Refused))
        assert refused.decided_by == "websocket:fraud/bar"


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (None, "250"),
        (DONE, "250"),
        (Decision("reject"), "550 5.7.1 Refused by policy"),
        (Decision("reject", 452, "4.2.2", "full"), "452 4.2.2 full"),
        (Decision("tempfail"), "451 4.7.1"),
        (Decision("disconnect", text="bye"), "421 4.7.0 bye"),
    ],
)
async def test_decisions_are_applied(answer: Any, reply: str) -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("rcptto")
        async def decide(request: PolicyRequest) -> Any:
            assert request.arguments["recipient"] == "you@example.com"
            return answer

        await stage.attach(client)
        session = await stage.hello()
        assert (await mail(session)).startswith(reply)


async def test_discarded_mail_is_accepted_and_not_delivered() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("mailfrom")
        async def decide(request: PolicyRequest) -> Any:
            return DISCARD if request.arguments["sender"].startswith("bad") else None

        await stage.attach(client)
        session = await stage.hello()
        assert (await mail(session, "bad@example.org")).startswith("250")
        assert not stage.server.messages
        assert (await mail(session)).startswith("250")
        assert len(stage.server.messages) == 1
        told = [event.discarded_by for event in stage.server.events if isinstance(event, MessageAccepted)]
        assert told == ["websocket:fraud/bar", ""]


async def test_variables_and_header_fields_reach_the_message() -> None:
    async with open_stage('Context = [ old = "1" ]') as stage:
        client = decider()

        @client.on("connect", "mailfrom", "data_spool")
        async def decide(request: PolicyRequest) -> None:
            request.set(old=None, **{f"at_{request.phase}": "yes"})
            request.set_message(score="7")
            request.add_header(f"X-{request.phase}", "1")
            if request.phase == "data_spool":
                assert request.arguments == {"size": len(BODY), "headers": [["Subject", "x"]]}

        await stage.attach(client)
        session = await stage.hello()
        for _ in range(2):
            assert (await mail(session)).startswith("250")
        for message in stage.server.messages:
            assert message.variables["at_mailfrom"] == message.variables["at_connect"] == "yes"
            assert "old" not in message.variables
            assert message.message_variables["score"] == "7"
            names = [line.partition(b":")[0] for line in message.trace.split(b"\r\n") if line[:1] not in (b" ", b"")]
            assert names == [b"Received", b"X-connect", b"X-mailfrom", b"X-data_spool"]


async def test_changed_only_sends_only_changes() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        raw = await stage.raw()
        await raw.decider("ehlo", "mailfrom", "rcptto", changed_only=True, variables=["site", "ehlo_domain", "x"])
        session = stage.server.connect()
        await session.read()
        await session.send(b"EHLO one.example.org\r\n")
        first = await raw.read()
        assert first["params"]["variables"] == {"site": "a", "ehlo_domain": "one.example.org"}
        await raw.answer(first, decision="continue", set={"connection": {"x": "1", "site": None}})
        await session.read()
        await session.send(b"MAIL FROM:<>\r\n")
        second = await raw.read()
        assert second["params"]["variables"] == {"x": "1", "site": None}
        await raw.answer(second, decision="continue")


async def test_groups_are_asked_in_the_order_of_the_list() -> None:
    configuration = """
    Relay_Domains = ( "example.com" )
    Policy = ( "websocket:first" "websocket:second" )
    ESMTP_Listener { Listen ":25" { } }
    """
    async with open_stage(configuration=configuration) as stage:
        asked: list[str] = []
        for name in ("second", "first"):
            client = PolicyClient("unix:/memory", name="c", group=name)

            @client.on("mailfrom")
            async def decide(request: PolicyRequest, name: str = name) -> Any:
                asked.append(name)
                return DONE if request.arguments["sender"] == "done@example.org" else None

            await stage.attach(client)
        session = await stage.hello()
        await mail(session)
        assert asked == ["first", "second"]
        await mail(session, "done@example.org")
        assert asked[2:] == ["first"]


async def test_sessions_are_shared_and_each_stays_with_its_decider() -> None:
    async with open_stage() as stage:
        seen: dict[str, set[str]] = {}
        for name in ("one", "two"):
            client = decider(name)

            @client.on("mailfrom", "rcptto")
            async def decide(request: PolicyRequest, name: str = name) -> None:
                seen.setdefault(request.session, set()).add(name)
                both_asked.set() if len(seen) == 10 else None
                await both_asked.wait()  # so that both owe answers

            await stage.attach(client)
        both_asked = trio.Event()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(mail, await stage.hello())
        assert all(len(names) == 1 for names in seen.values())
        assert [sum(names == {name} for names in seen.values()) for name in ("one", "two")] == [5, 5]
