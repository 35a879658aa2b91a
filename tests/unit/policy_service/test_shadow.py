"""Deciders in shadow mode."""

from typing import Any

import pytest
import trio
import trio.testing
from policy_stage import BODY, Stage, decider, mail, open_stage

from triosmtp import Reject
from triosmtp.event import PolicyFallback, ShadowDiffered
from triosmtp.policy_client import (
    Decision,
    PolicyClient,
    PolicyRequest,
)


def strict(stage: Stage, name: str = "strict", *, seconds: float = 0.2) -> PolicyClient:
    client = PolicyClient("unix:/memory", name=name, group="fraud", mode="shadow")

    @client.on("mailfrom")
    async def decide(request: PolicyRequest) -> None:
        await trio.sleep(seconds)
        raise Reject(550, "5.7.1", "no")

    return client


async def test_a_decider_in_shadow_has_no_effect_and_is_counted() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        client = decider("strict", mode="shadow")
        answered: list[str] = []

        @client.on("mailfrom", "rcptto")
        async def decide(request: PolicyRequest) -> None:
            answered.append(request.phase)
            if request.arguments.get("sender", "").startswith("bad"):
                raise Reject(550, "5.7.1", "would not have it")

        await stage.attach(client)
        for sender in ("good@example.org", "bad@example.org"):
            session = await stage.hello()
            assert (await mail(session, sender)).startswith("250")
            assert (await mail(session, "good@example.org")).startswith("250")
            await trio.testing.wait_all_tasks_blocked()
        assert len(stage.server.messages) == 4
        assert len(answered) == 8
        (record,) = stage.hub.shadow_report()
        found = {name: record[name] for name in ("sessions", "sessions_differing", "messages", "messages_differing")}
        assert found == {"sessions": 2, "sessions_differing": 1, "messages": 4, "messages_differing": 1}
        assert record["examples"][0]["arguments"]["sender"] == "bad@example.org"
        differed = next(event for event in stage.server.events if isinstance(event, ShadowDiffered))
        assert (differed.answer, differed.outcome) == ("reject 550 5.7.1", "accepted")


async def test_a_decider_in_shadow_is_asked_although_its_group_is_not() -> None:
    configuration = 'Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen ":25" { } }'
    async with open_stage(configuration=configuration) as stage:
        client = PolicyClient("unix:/memory", name="trial", group="trial", mode="shadow")

        @client.on("connect", "rcptto", "data_spool")
        async def decide(request: PolicyRequest) -> Any:
            return Decision("reject") if request.phase == "data_spool" else None

        await stage.attach(client)
        session = await stage.hello()
        for _ in range(2):
            assert (await mail(session)).startswith("250")
            await trio.testing.wait_all_tasks_blocked()
        (record,) = stage.hub.shadow_report()
        assert (record["asked"], record["sessions_differing"]) == (5, 1)
        assert (record["messages"], record["messages_differing"]) == (2, 2)


async def test_a_decider_in_shadow_that_hangs_is_only_counted(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        client = decider("hanging", mode="shadow")

        @client.on("mailfrom")
        async def never(request: PolicyRequest) -> None:
            await trio.sleep_forever()

        await stage.attach(client)
        session = await stage.hello()
        before = trio.current_time()
        assert (await mail(session)).startswith("250")
        assert trio.current_time() == pytest.approx(before, abs=0.01)
        await trio.sleep(6)
        assert stage.hub.shadow_report()[0]["failed"] == 1


async def test_groups_and_records_of_clients_are_bounded() -> None:
    async with open_stage() as stage:
        for number in range(300):
            mode = "shadow" if number % 150 else "enforce"
            async with trio.open_nursery() as nursery:
                raw = await stage.raw(nursery=nursery)
                await raw.initialize(name="a", group=f"g{number}", role="decider", phases=["data"], mode=mode)
                await raw.socket.aclose()
                await trio.testing.wait_all_tasks_blocked()
        assert [group["group"] for group in stage.hub.groups()] == ["fraud"]  # which the configuration names
        assert len(stage.hub.shadow_report()) == 256
        assert stage.hub.shadow_report()[-1]["group"] == "g299"


async def test_an_answer_in_shadow_after_the_session_is_counted(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        await stage.attach(strict(stage))
        session = await stage.hello()
        for _ in range(3):  # each is over before the answer about it comes
            await session.message("a@example.org", ["you@example.com"], BODY)
        await session.command("QUIT")
        await trio.sleep(1)
        (record,) = stage.hub.shadow_report()
        counts = [record[name] for name in ("sessions", "sessions_differing", "messages", "messages_differing")]
        assert counts == [1, 1, 3, 3]


async def test_shadows_of_one_name_share_the_sessions(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        for _ in range(2):
            await stage.attach(strict(stage))
        for _ in range(20):
            session = await stage.hello()
            await session.message("a@example.org", ["you@example.com"], BODY)
        await trio.sleep(1)
        (record,) = stage.hub.shadow_report()
        counts = [record[name] for name in ("asked", "failed", "sessions", "messages", "messages_differing")]
        assert counts == [20, 0, 20, 20, 20]
        assert all(client["answered"] for client in stage.hub.clients())
        assert not [each for each in stage.server.events if isinstance(each, PolicyFallback) and each.group != "fraud"]
