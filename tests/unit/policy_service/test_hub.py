"""Deciding elsewhere: groups, time limits, deaths, fallbacks, shadows; with real websockets in memory."""

import json
from base64 import b64encode
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from attrs import evolve
from policy_stage import LOCAL, Raw, Stage, open_stage
from wsproto.frame_protocol import FrameProtocol

from triosmtp import DISCARD, DONE, Reject
from triosmtp.event import MessageAccepted, PolicyClientDisconnected, PolicyFallback, Refused, ShadowDiffered
from triosmtp.policy_client import (
    Decision,
    Notification,
    PolicyClient,
    PolicyClientError,
    PolicyRequest,
    PolicyRequestError,
)
from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.hub import ClientAccess, Hub, HubLimits
from triosmtp.policy_service.json_rpc import PROTOCOL
from triosmtp.policy_service.outbox import Outbox, encode_text_frame
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.registration import read_registration
from triosmtp.testing import Client

BODY = b"Subject: x\r\n\r\nhello\r\n"


def decider(name: str = "bar", **more: Any) -> PolicyClient:
    return PolicyClient("unix:/memory", name=name, group="fraud", **more)


async def mail(client: Client, sender: str = "a@example.org") -> str:
    return str(await client.message(sender, ["you@example.com"], BODY))


# The exact words


async def test_the_words_on_the_wire() -> None:
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


# Decisions


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


async def test_changes_alone_are_sent_where_that_is_wanted() -> None:
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


async def test_the_library_puts_changes_together_again() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        client = decider(changed_only=True)
        seen: list[dict[str, str]] = []

        @client.on("ehlo", "mailfrom", "rcptto")
        async def decide(request: PolicyRequest) -> None:
            seen.append(dict(request.variables))
            request.set(**{request.phase: "1"})

        await stage.attach(client)
        await mail(await stage.hello())
        assert seen[2]["site"] == "a"
        assert seen[2]["ehlo"] == seen[2]["mailfrom"] == "1"


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


# No answer


FALLBACKS = [
    ("tempfail", "421 Local error", "451 4.3.0"),
    ("reject", "554 Refused by policy", "550 5.7.1"),
    ("continue", "220", "250"),
]


@pytest.mark.parametrize(("fallback", "at_connect", "at_mail"), FALLBACKS)
async def test_a_time_out_gives_the_fallback_and_is_told(
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


async def test_a_group_without_deciders_gives_its_fallback_at_mailfrom_alone() -> None:
    async with open_stage() as stage:
        watcher = PolicyClient("unix:/memory", name="watcher", group="fraud")  # an observer does not count
        await stage.attach(watcher)
        session = await stage.hello()
        assert (await mail(session)).startswith("451 4.3.0")
        failure = next(event.failure for event in stage.server.events if isinstance(event, PolicyFallback))
        assert failure == "no decider"


async def test_deciders_that_are_gone_still_guard_their_phases() -> None:
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


async def test_a_decider_that_dies_has_its_question_asked_again_of_another() -> None:
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


async def test_the_last_decider_dies_and_the_fallback_is_given_at_once() -> None:
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


async def test_sessions_are_shared_and_each_stays_with_its_decider() -> None:
    async with open_stage() as stage:
        seen: dict[str, set[str]] = {}
        for name in ("one", "two"):
            client = decider(name)

            @client.on("mailfrom", "rcptto")
            async def decide(request: PolicyRequest, name: str = name) -> None:
                seen.setdefault(request.session, set()).add(name)
                gate.set() if len(seen) == 10 else None
                await gate.wait()  # so that both owe answers

            await stage.attach(client)
        gate = trio.Event()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(mail, await stage.hello())
        assert all(len(names) == 1 for names in seen.values())
        assert [sum(names == {name} for names in seen.values()) for name in ("one", "two")] == [5, 5]


async def test_the_breaker_opens_and_a_probe_closes_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        hanging = True
        client = decider()

        @client.on("mailfrom")
        async def decide(request: PolicyRequest) -> None:
            if hanging:
                await trio.sleep_forever()

        stage.hub.limits = HubLimits(breaker_timeouts=3, breaker_seconds=10, client_timeouts=100)
        stage.hub.group("fraud")._limits = stage.hub.limits
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


# Hostile clients


@pytest.mark.parametrize(
    "result",
    [
        "accept", [], {}, {"decision": "yes"}, {"decision": "reject", "text": "a\r\n250 ok"},
        {"decision": "reject", "text": "x" * 100_000}, {"decision": "continue", "set": {"connection": {"tls": "on"}}},
        {"decision": "continue", "add_headers": [["X", "a\r\nY: b"]]},
    ],
)  # fmt: skip
async def test_an_answer_that_does_not_fit_is_the_fallback(result: object) -> None:
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


async def test_an_error_as_the_answer_is_the_fallback() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("mailfrom")
        async def fail(request: PolicyRequest) -> None:
            raise RuntimeError("broken")

        await stage.attach(client)
        session = await stage.hello()
        assert str(await session.command("MAIL FROM:<>")).startswith("451 4.3.0")


async def test_nobody_answers_for_another(autojump_clock: trio.testing.MockClock) -> None:
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


async def test_malformed_frames_are_answered_and_then_end_the_client() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        for number in range(20):
            await raw.text("{" if number % 2 else '{"jsonrpc":"2.0","id":"unknown","result":{}}')
        assert await raw.ended() == 1008


async def test_a_message_that_is_too_large_ends_the_client() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.text('"' + "x" * 300_000 + '"')
        assert await raw.ended() == 1009


async def test_a_binary_frame_ends_the_client() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.socket.send_message(b"\x00")
        assert await raw.ended() == 1003


async def test_requests_come_after_initialize_which_comes_once() -> None:
    async with open_stage() as stage:
        raw = await stage.raw()
        await raw.send(id=1, method="policy.report")
        assert (await raw.read())["error"]["code"] == -32001
        assert "result" in await raw.initialize()
        assert (await raw.initialize())["error"]["code"] == -32600
        await raw.send(id=2, method="session.steal")
        assert (await raw.read())["error"]["code"] == -32601


# Who may come in


ORIGIN = (b"Origin", b"https://evil.example")
TLS = ClientAccess(listener="p", peer="x", encrypted=True)
TCP = ClientAccess(listener="policy", peer="192.0.2.9:1", token="t" * 16, admin_token="a" * 16)


@pytest.mark.parametrize(
    ("access", "upgrade", "status"),
    [
        (TCP, {}, 401),
        (TCP, {"token": "wrong"}, 401),
        (TCP, {"headers": [ORIGIN]}, 403),
        (TCP, {"token": "wrong", "headers": [ORIGIN]}, 403),
        (TCP, {"token": "t" * 16, "headers": [(b"Authorization", b"Bearer wrong")]}, 400),
        (TCP, {"headers": [ORIGIN, (b"Authorization", b"Basic " + b64encode(b"x:" + b"t" * 16))]}, 403),
        (TCP, {"headers": [ORIGIN, (b"Authorization", b"Basic " + b"t" * 16)]}, 403),
        (TCP, {"headers": [ORIGIN, (b"Cookie", b"token=" + b"t" * 16)]}, 403),
        (TCP, {"headers": [ORIGIN], "subprotocols": [PROTOCOL, "t" * 16, f"Bearer.{'t' * 16}"]}, 403),
        (TCP, {"headers": [ORIGIN], "path": f"/?access_token={'t' * 16}&token={'t' * 16}"}, 403),
        (TCP, {"path": f"/?access_token={'t' * 16}"}, 401),
        (TCP, {"subprotocols": [PROTOCOL, "t" * 16]}, 401),
        (TCP, {"headers": [(b"Cookie", b"token=" + b"t" * 16)]}, 401),
        (evolve(TLS, certificate=True), {"headers": [ORIGIN]}, 403),
        (
            ClientAccess(listener="p", peer="x", encrypted=True, certificate=True, token="t" * 16),
            {"headers": [ORIGIN]},
            403,
        ),
        (LOCAL, {"headers": [ORIGIN], "token": "wrong"}, 403),
        (ClientAccess(listener="p", peer="unix", local=True), {"headers": [ORIGIN], "token": "t" * 16}, 403),
        (TCP, {"token": "t" * 16, "subprotocols": []}, 400),
        (TCP, {"token": "t" * 16, "subprotocols": ["policy.v2.triosmtp"]}, 400),
        (
            ClientAccess(listener="p", peer="x", encrypted=True, certificate=False, token="t" * 16),
            {"token": "t" * 16},
            403,
        ),
        (LOCAL, {"headers": [(b"Origin", b"null")]}, 403),
    ],
)
async def test_who_is_not_let_in(access: ClientAccess, upgrade: dict[str, Any], status: int) -> None:
    async with open_stage() as stage:
        assert await stage.status(access, **upgrade) == status
        assert not stage.hub.clients()


@pytest.mark.parametrize(
    ("access", "token", "admin"),
    [
        (TCP, "t" * 16, False),
        (TCP, "a" * 16, True),
        (LOCAL, "", False),
        (LOCAL, "a" * 16, True),
        (evolve(TLS, certificate=True), "", False),
    ],
)
async def test_who_is_let_in_and_who_may_command(access: ClientAccess, token: str, admin: bool) -> None:
    async with open_stage() as stage:
        raw = await stage.raw(access, token=token)
        await raw.initialize()
        for method in ("session.list", "certificates.list", "session.close", "policy.replay"):
            await raw.send(id=2, method=method, params={})
            answer = await raw.read()
            refused = answer.get("error", {}).get("code") == -32002
            assert refused is not admin


@pytest.mark.parametrize("origin", [b"https://x.example", b"null", b""])
@pytest.mark.parametrize("token", ["t" * 16, "a" * 16])
@pytest.mark.parametrize(
    "access",
    [
        TCP,
        ClientAccess(listener="p", peer="unix", local=True, token="t" * 16, admin_token="a" * 16),
        ClientAccess(listener="p", peer="x", encrypted=True, certificate=True, token="t" * 16, admin_token="a" * 16),
    ],
)
async def test_a_program_that_sends_origin_comes_in_with_a_token(
    access: ClientAccess, token: str, origin: bytes
) -> None:
    async with open_stage() as stage:
        raw = await stage.raw(access, token=token, headers=[(b"Origin", origin)])
        assert (await raw.initialize())["result"]["protocol"] == PROTOCOL


async def test_a_silent_peer_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub()
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(15):
        await hub.serve_client(theirs, LOCAL)
    assert await ours.receive_some() == b""


# Control requests


async def test_control_requests() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        admin = PolicyClient("unix:/memory", name="admin", token="a" * 16)
        with pytest.raises(trio.BrokenResourceError):
            await admin.request("session.list")
        await stage.attach(admin)
        session = await stage.hello()
        (listed,) = (await admin.request("session.list"))["sessions"]
        assert listed["peer"] == "192.0.2.1:1024"
        assert listed["state"] == "ready"
        changes = {"connection": {"score": "9", "site": None}, "message": {}}
        await admin.request("session.set_variables", session=listed["id"], **changes)
        found = await admin.request("session.get", session=listed["id"])
        assert found["variables"]["score"] == "9"
        assert "site" not in found["variables"]
        with pytest.raises(PolicyRequestError, match="written by the TLS engine"):
            await admin.request("session.set_variables", session=listed["id"], connection={"tls": "on"})
        for method in ("session.get", "session.close", "session.set_variables"):
            with pytest.raises(PolicyRequestError, match="no such session"):
                await admin.request(method, session="unknown")
        with pytest.raises(PolicyRequestError, match="expected a string"):
            await admin.request("session.get", session=5)
        assert await admin.request("certificates.list") == {"certificates": []}
        assert (await admin.request("certificates.reload"))["problems"] == []
        await admin.request("session.close", session=listed["id"])
        assert str(await session.read()) == "421 4.3.2 Closing the connection"


async def test_a_rehearsal_asks_without_any_consequence() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("mailfrom")
        async def decide(request: PolicyRequest) -> Any:
            return Decision("reject", text="no") if request.variables.get("tls") != "on" else None

        await stage.attach(client)
        admin = PolicyClient("unix:/memory", name="admin", token="a" * 16)
        await stage.attach(admin)
        asked = [{"phase": "mailfrom", "variables": {"tls": "on"}}, {"phase": "mailfrom"}]
        found = await admin.request("policy.replay", group="fraud", requests=asked)
        refusal = {"decision": "reject", "code": 550, "enhanced": "5.7.1", "text": "no"}
        assert found == {"results": [{"decision": "continue"}, refusal]}
        found = await admin.request("policy.replay", group="empty", requests=[{"phase": "mailfrom"}])
        assert found == {"results": [{"error": "no decider"}]}
        with pytest.raises(PolicyRequestError, match=r"requests\[0\].phase"):
            await admin.request("policy.replay", group="fraud", requests=[{"phase": "mail"}])
        assert not any(isinstance(event, PolicyFallback) for event in stage.server.events)


# Telling


async def told(stage: Stage, *patterns: str, **more: Any) -> list[Notification]:
    notes: list[Notification] = []
    client = PolicyClient("unix:/memory", name="watcher", **more)

    @client.notification(*patterns)
    async def note(each: Notification) -> None:
        notes.append(each)

    await stage.attach(client)
    return notes


async def test_a_session_is_told_from_beginning_to_end() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        notes = await told(stage, "*", variables=["ehlo_domain"])
        quiet = await told(stage, "session.closed", peers=["10.0.0.0/8"])
        session = await stage.hello()
        await session.command("NONSENSE")
        await mail(session)
        await session.command("QUIT")
        await trio.testing.wait_all_tasks_blocked()
        assert [note.method for note in notes] == [
            "session.opened", "session.refused", "policy.fallback", "message.accepted", "session.closed",
        ]  # fmt: skip
        sequences = [note.params["sequence"] for note in notes]
        assert sequences == sorted(set(sequences))
        accepted = notes[3]
        assert accepted.params["recipients"] == ["you@example.com"]
        assert accepted.variables == {"ehlo_domain": "client.example.org"}
        assert {note.params["peer"] for note in notes} == {"192.0.2.1:1024"}
        assert {note.params["listener"] for note in notes} == {":25"}
        assert not quiet


async def test_phases_are_told_with_what_became_of_them() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        notes = await told(stage, "session.phase")
        session = await stage.hello()
        await session.command("MAIL FROM:<a@example.org>")
        await session.command("RCPT TO:<a@elsewhere.example>")
        await session.command("RCPT TO:<you@example.com>")
        await session.command("DATA")
        await session.send(BODY + b".\r\n")
        await session.read()
        await trio.testing.wait_all_tasks_blocked()
        phases = [(note.params["phase"], note.params["outcome"]["code"]) for note in notes]
        assert phases == [
            ("connect", None), ("ehlo", None), ("mailfrom", None), ("rcptto", 550), ("rcptto", None), ("data", None),
            ("data_spool", None), ("data_spool_each_rcpt", None),
        ]  # fmt: skip
        assert notes[3].params["outcome"]["decided_by"] == "relay"
        assert notes[6].params["arguments"]["headers"] == [["Subject", "x"]]


async def test_an_observer_that_does_not_read_loses_and_is_told_how_much(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        stage.hub.limits = HubLimits(queue=5, queue_bytes=10_000)
        ours, theirs = trio.testing.memory_stream_pair()
        stage.nursery.start_soon(stage.hub.serve_client, theirs, LOCAL)
        socket = await trio_websocket.wrap_client_stream(
            stage.nursery,
            ours,  # type: ignore[arg-type]  # any stream will do
            "localhost",
            "/",
            subprotocols=[PROTOCOL],
        )
        raw = Raw(socket)
        await raw.initialize(notifications=["session.*"])
        window = trio.Event()
        theirs.send_stream.send_all_hook = window.wait  # nothing leaves: as to a reader whose window is closed
        keeping_up = await told(stage, "session.*")
        for _ in range(20):
            session = await stage.hello()
            await session.command("QUIT")
            await trio.testing.wait_all_tasks_blocked()
        assert len(keeping_up) == 40
        link = stage.hub._clients[0]
        assert len(link.outbox._notifications) == 5
        lost = link.outbox.lost
        assert lost > 30
        theirs.send_stream.send_all_hook = None
        window.set()
        await trio.testing.wait_all_tasks_blocked()
        session = await stage.hello()
        seen: dict[str, Any] = {}
        while "lost" not in seen:
            seen = (await raw.read())["params"]
        assert seen["lost"] == lost


async def test_a_decider_that_does_not_read_its_questions_is_dropped() -> None:
    dropped: list[bool] = []
    link = ConnectedClient(LOCAL, HubLimits(outstanding=3), admin=False, disconnect=lambda: dropped.append(True))
    link.registration = read_registration({"name": "a", "group": "g", "role": "decider", "phases": ["mailfrom"]})
    for number in range(4):
        asked = Question(
            id=str(number), session="s", phase="mailfrom", peer="p", listener="l", variables={}, message_variables={},
            arguments={},
        )  # fmt: skip
        pending = link.ask(asked, 5.0)
    assert dropped == [True]
    assert pending.done.is_set()


# Shadows


async def test_a_decider_in_shadow_changes_nothing_and_is_counted() -> None:
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


async def test_a_shadow_of_a_group_that_is_not_asked_sees_the_traffic_too() -> None:
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


async def test_shadows_that_hang_cost_nothing_but_their_count(autojump_clock: trio.testing.MockClock) -> None:
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


# The parts


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_frames_are_those_of_the_standard(size: int) -> None:
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(encode_text_frame(b"x" * size))
    assert b"".join(str(each.payload).encode() for each in reader.received_frames()) == b"x" * size


async def test_the_outbox_gives_what_is_urgent_first_and_much_at_once() -> None:
    box = Outbox(10, 1000, 2, 20)
    assert box.put_notification(b"note1")
    assert box.put_notification(b"note2")
    assert box.put_urgent(b"question")
    assert await box.take() == b"questionnote1note2"
    assert box.put_urgent(b"1")
    assert box.put_urgent(b"2")
    assert not box.put_urgent(b"3")
    assert not box.put_notification(b"x" * 1001)
    assert box.lost == 1


# The library


async def test_mistakes_in_a_client_are_told_at_once() -> None:
    client = decider()
    with pytest.raises(ValueError, match="is none of connect"):
        client.on("mail")(mail)
    with pytest.raises(TypeError, match="not an async function"):
        client.on("mailfrom")(json.dumps)  # type: ignore[type-var]  # the mistake under test
    with pytest.raises(ValueError, match="matches no notification"):
        client.notification("session.born")

    @client.on("mailfrom")
    async def decide(request: PolicyRequest) -> None:
        pass

    with pytest.raises(ValueError, match="has a handler already"):
        client.on("mailfrom")(decide)


async def test_a_server_that_will_not_have_a_client_is_not_asked_again() -> None:
    async with open_stage() as stage:
        with pytest.raises(PolicyClientError, match="401: a token is needed"):
            await PolicyClient("ws://x/", name="a").run_on(stage._pair(TCP))
        with pytest.raises(PolicyClientError, match="name: expected"):
            await PolicyClient("ws://x/", name="a b").run_on(stage._pair(LOCAL))
        with pytest.raises(PolicyClientError, match="expected ws://"):
            await PolicyClient("http://x/", name="a").run()


async def test_a_client_gives_up_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        client = decider()
        ended = trio.Event()

        @client.on("mailfrom")
        async def slow(request: PolicyRequest) -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        await stage.attach(client)
        session = await stage.hello()
        await session.command("MAIL FROM:<>")
        with trio.fail_after(30):  # of the mock clock
            await ended.wait()
