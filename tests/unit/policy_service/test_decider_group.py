"""The deciders of a group: time-outs, fallbacks and the circuit breaker."""

import pytest
import trio
import trio.testing
from policy_stage import Stage, decider, mail, open_stage

from triosmtp.event import PolicyClientDisconnected, PolicyFallback
from triosmtp.policy_client import (
    PolicyClient,
    PolicyRequest,
)
from triosmtp.policy_service.circuit_breaker import CircuitBreaker
from triosmtp.policy_service.hub import HubLimits


async def hang_again_and_again(stage: Stage) -> None:
    while True:
        async with trio.open_nursery() as nursery:
            raw = await stage.raw(nursery=nursery)
            await raw.decider("mailfrom")
            await raw.ended()
            nursery.cancel_scope.cancel()


FALLBACKS = [
    ("tempfail", "421 Local error", "451 4.3.0"),
    ("reject", "554 Refused by policy", "550 5.7.1"),
    ("continue", "220", "250"),
]


@pytest.mark.parametrize(("fallback", "at_connect", "at_mail"), FALLBACKS)
async def test_a_time_out_causes_the_fallback_and_an_event(
    fallback: str, at_connect: str, at_mail: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(f"Policy_Timeout = 2 Policy_Fallback = {fallback}") as stage:
        client = decider()

        @client.on("connect", "mailfrom")
        async def never(request: PolicyRequest) -> None:
            if request.phase == "mailfrom" or request.peer.startswith("198."):
                await trio.sleep_forever()

        await stage.attach(client)
        slow = stage.server.connect(peer="198.51.100.1")
        before = trio.current_time()
        assert str(await slow.read()).startswith(at_connect)
        assert trio.current_time() - before == pytest.approx(2, abs=0.1)
        session = await stage.hello()
        assert str(await session.command("MAIL FROM:<>")).startswith(at_mail)
        told = [event for event in stage.server.events if isinstance(event, PolicyFallback)]
        assert [(event.phase, event.fallback, event.failure) for event in told] == [
            ("connect", fallback, "timed out after 2 s"),
            ("mailfrom", fallback, "timed out after 2 s"),
        ]


async def test_fallbacks_by_phase() -> None:
    options = "Policy_Fallback = reject Policy_Fallback_Phases = [ mailfrom = tempfail ]"
    async with open_stage(options) as stage:
        raw = await stage.raw()
        await raw.decider("mailfrom", "rcptto")
        session = await stage.hello()
        for command, reply in (("MAIL FROM:<>", "451"), ("MAIL FROM:<>", "250"), ("RCPT TO:<a@example.com>", "550")):
            await session.send(f"{command}\r\n".encode())
            question = await raw.read()
            decision = "continue" if reply == "250" else "nonsense"
            await raw.answer(question, decision=decision)
            assert str(await session.read()).startswith(reply)


async def test_a_group_without_deciders_falls_back_only_at_mailfrom() -> None:
    async with open_stage() as stage:
        watcher = PolicyClient("unix:/memory", name="watcher", group="fraud")  # an observer does not count
        await stage.attach(watcher)
        session = await stage.hello()
        assert (await mail(session)).startswith("451 4.3.0")
        failure = next(event.failure for event in stage.server.events if isinstance(event, PolicyFallback))
        assert failure == "no decider"


async def test_the_phases_of_disconnected_deciders_fall_back() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("ehlo", "rcptto")
        async def decide(request: PolicyRequest) -> None:
            pass

        scope = await stage.attach(client)
        session = await stage.hello()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert str(await session.command("MAIL FROM:<>")).startswith("250")
        assert str(await session.command("RCPT TO:<a@example.com>")).startswith("451 4.3.0")
        assert str(await session.command("EHLO again")).startswith("451 Local error")


async def test_the_question_of_a_disconnected_decider_goes_to_another() -> None:
    async with open_stage() as stage:
        first = await stage.raw()
        await first.decider("mailfrom", name="first")
        session = await stage.hello()
        await session.send(b"MAIL FROM:<>\r\n")
        question = await first.read()
        second = await stage.raw()
        await second.decider("mailfrom", name="second")
        await first.socket.aclose()
        again = await second.read()
        assert again["id"] == question["id"]
        await second.answer(again, decision="reject")
        assert str(await session.read()).startswith("550")
        assert not any(isinstance(event, PolicyFallback) for event in stage.server.events)


async def test_if_the_last_decider_disconnects_the_fallback_applies_at_once() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.decider("mailfrom")
        session = await stage.hello()
        await session.send(b"MAIL FROM:<>\r\n")
        await raw.read()
        before = trio.current_time()
        await raw.socket.aclose()
        assert str(await session.read()).startswith("451 4.3.0")
        assert trio.current_time() - before < 1
        assert [event.failure for event in stage.server.events if isinstance(event, PolicyFallback)] == [
            "no decider is left"
        ]


async def test_the_breaker_opens_and_a_probe_closes_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        hanging = True
        client = decider()

        @client.on("mailfrom")
        async def decide(request: PolicyRequest) -> None:
            if hanging:
                await trio.sleep_forever()

        stage.hub.limits = HubLimits(client_timeouts=100)
        stage.hub.group("fraud")._limits = stage.hub.limits
        stage.hub.group("fraud")._breaker = CircuitBreaker(timeouts=3, seconds=10)
        await stage.attach(client)
        session = await stage.hello()
        for _ in range(3):
            assert str(await session.command("MAIL FROM:<>")).startswith("451")
        before = trio.current_time()
        assert str(await session.command("MAIL FROM:<>")).startswith("451")
        assert trio.current_time() == pytest.approx(before, abs=0.01)
        failures = [event.failure for event in stage.server.events if isinstance(event, PolicyFallback)]
        assert failures[-1] == "the circuit breaker is open after 3 time-outs in a row"
        assert stage.hub.groups()[0]["breaker"] == "open"
        hanging = False
        await trio.sleep(10)
        assert str(await session.command("MAIL FROM:<>")).startswith("250")
        assert stage.hub.groups()[0]["breaker"] == "closed"


async def test_a_decider_with_time_outs_in_a_row_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        raw = await stage.raw()
        await raw.decider("mailfrom")
        session = await stage.hello()
        for _ in range(5):
            assert str(await session.command("MAIL FROM:<>")).startswith("451")
        assert await raw.ended() == 1008
        gone = next(event for event in stage.server.events if isinstance(event, PolicyClientDisconnected))
        assert gone.reason == "too slow: 5 time-outs in a row"


async def test_late_answers_are_counted_and_change_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        raw = await stage.raw()
        await raw.decider("mailfrom")
        session = await stage.hello()
        await session.send(b"MAIL FROM:<>\r\n")
        question = await raw.read()
        assert str(await session.read()).startswith("451")
        await raw.answer(question, decision="reject")
        await raw.send(id=7, method="policy.groups")
        await raw.read()
        assert stage.hub.clients()[0]["late"] == 1


async def test_a_decider_that_hangs_and_comes_back_does_not_close_the_breaker(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        stage.nursery.start_soon(hang_again_and_again, stage)
        await trio.testing.wait_all_tasks_blocked()
        session = await stage.hello()
        before = trio.current_time()
        for _ in range(20):
            assert str(await session.command("MAIL FROM:<>")).startswith("451")
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - before < 8  # five time-outs, one more of who came back, and then none
        assert stage.hub.groups()[0]["breaker"] == "open"
