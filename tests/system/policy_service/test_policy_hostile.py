"""What goes wrong between a hub and its clients, and what it must not become."""

import random
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from policy_stage import LOCAL, Stage, open_stage

from triosmtp import Reject
from triosmtp.event import PolicyClientDisconnected, PolicyClientRefused, PolicyFallback, ServerEvent
from triosmtp.policy.interface import Phase
from triosmtp.policy_client import PolicyClient, PolicyRequest
from triosmtp.policy_service.client_access import token_matches
from triosmtp.policy_service.connected_client import CloseReason, ConnectedClient
from triosmtp.policy_service.decider_group import NoAnswerError
from triosmtp.policy_service.hub import ClientAccess, Hub, HubLimits
from triosmtp.policy_service.hub_policy import header_fields
from triosmtp.policy_service.json_rpc import ProtocolError, encode_json
from triosmtp.policy_service.outbox import Outbox
from triosmtp.policy_service.question import Outcome, Question
from triosmtp.policy_service.registration import read_registration

BODY = b"Subject: x\r\n\r\nhello\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: policy.v1.triosmtp\r\n\r\n"
)


def question(number: int = 1, phase: Phase = "mailfrom") -> Question:
    return Question(
        id=f"s-{number}", session="s", phase=phase, peer="192.0.2.7:1", listener=":25", variables={},
        message_variables={}, arguments={},
    )  # fmt: skip


def open_decider(hub: Hub, *phases: str, name: str = "one", group: str = "g") -> ConnectedClient:
    """Join a decider to ``hub`` whose frames nobody carries."""
    link = hub.add_client(LOCAL, admin=False, disconnect=lambda: None)
    params = {"name": name, "group": group, "role": "decider", "phases": list(phases), "notifications": []}
    link.registration = read_registration(params)
    hub.group(group).add(link)
    return link


# Bytes that are no websocket


async def send_raw(hub: Hub, data: bytes, access: ClientAccess = LOCAL) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve_client, theirs, access)
        await ours.send_all(data)
        await ours.send_eof()
        with trio.fail_after(60):
            while await ours.receive_some(65536):
                pass


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40_000, UPGRADE.replace(b"13", b"8"),
        UPGRADE + b"\x81\x05hello",  # not masked
        UPGRADE + b"\x83\x80abcd", UPGRADE + b"\x81\x81abcd\xff", UPGRADE + b"\x89\xfe\x01\x00abcd",
        UPGRADE + b"\x81\xff\x7f" + b"\xff" * 7 + b"abcd", UPGRADE * 3,
    ],
    ids=repr,
)  # fmt: skip
async def test_bytes_that_are_no_websocket_end_their_sender_alone(
    data: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    hub = Hub()
    await send_raw(hub, data)
    assert not hub.clients()


@pytest.mark.parametrize("where", [b"policy.v1.triosmtp", b"Upgrade\r\n"])
async def test_an_upgrade_that_is_not_ascii_is_refused_and_told(
    where: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    hub = Hub()
    told: list[ServerEvent] = []
    hub.on_event = told.append
    await send_raw(
        hub, UPGRADE.replace(where, b"\xff" + where), ClientAccess(listener="p", peer="192.0.2.9:1", token="t" * 16)
    )
    assert [type(event) for event in told] == [PolicyClientRefused]


async def test_mutated_upgrades_and_frames_raise_nothing(autojump_clock: trio.testing.MockClock) -> None:
    chance = random.Random(7)
    for _ in range(400):
        data = bytearray(UPGRADE + chance.randbytes(chance.randrange(80)))
        first = chance.choice([0, len(UPGRADE) - 30])
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(first, len(data))] = chance.randrange(256)
        hub = Hub()
        await send_raw(hub, bytes(data))
        assert not hub.clients()


@pytest.mark.parametrize(("given", "expected"), [(b"", ""), (b"", None), (b"x", ""), (b"", "x"), (b"x", "y")])
def test_a_token_that_is_missing_is_equal_to_nothing(given: bytes, expected: str | None) -> None:
    assert not token_matches(given, expected)
    assert token_matches(b"x", "x")


# Deciders that are gone, or come back to hang again


async def test_a_decider_that_was_dropped_is_not_asked_and_opens_no_door() -> None:
    hub = Hub()
    link = open_decider(hub, "mailfrom")
    link.drop(CloseReason("too slow"))  # its tasks have not ended yet: nobody has called remove_client
    told: list[ServerEvent] = []
    hub.on_event = told.append
    with trio.fail_after(1):
        verdict = await hub.decide("g", question(), timeout=5, fallback="tempfail")
    assert (verdict.code, verdict.failure) == (451, "no decider")
    assert len(told) == 1
    hub.remove_client(link)


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


async def hang_again_and_again(stage: Stage) -> None:
    while True:
        async with trio.open_nursery() as nursery:
            raw = await stage.raw(nursery=nursery)
            await raw.decider("mailfrom")
            await raw.ended()
            nursery.cancel_scope.cancel()


async def test_as_many_late_answers_are_known_as_questions_may_be_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = ConnectedClient(LOCAL, HubLimits(outstanding=500), admin=False, disconnect=lambda: None)
    link.registration = read_registration({"name": "a", "group": "g", "role": "decider", "phases": ["mailfrom"]})
    for number in range(500):
        link.ask(question(number), 5.0)
    for number in range(500):
        link.expire_question(f"s-{number}")
    for number in range(500):
        link.settle_question(f"s-{number}", {"decision": "continue"})
    assert link.late == 500
    with pytest.raises(ProtocolError, match="is open for this client"):
        link.settle_question("s-1", {})


async def test_a_group_guards_the_phases_of_those_who_are_there() -> None:
    hub = Hub()
    assert [hub.wants("g", phase) for phase in ("mailfrom", "rcptto")] == [True, False]
    one, two = open_decider(hub, "rcptto"), open_decider(hub, "data", name="two")
    hub.group("g").is_configured = True
    assert [hub.wants("g", phase) for phase in ("mailfrom", "rcptto", "data")] == [False, True, True]
    hub.remove_client(one)
    assert [hub.wants("g", phase) for phase in ("rcptto", "data")] == [False, True]
    hub.remove_client(two)
    assert hub.wants("g", "data")
    with pytest.raises(NoAnswerError, match="no decider"):
        await hub.group("g").ask(question(phase="data"), 1)


# The password


@pytest.mark.parametrize(
    ("access", "mode", "shown"),
    [
        (LOCAL, "enforce", True),
        (ClientAccess(listener="p", peer="192.0.2.9:1", encrypted=True, token="t" * 16), "enforce", True),
        (ClientAccess(listener="p", peer="127.0.0.1:1", token="t" * 16), "enforce", False),
        (LOCAL, "shadow", False),
    ],
)
async def test_a_password_goes_to_enforcing_deciders_on_a_private_way_alone(
    access: ClientAccess, mode: str, shown: bool
) -> None:
    link = ConnectedClient(access, HubLimits(), admin=True, disconnect=lambda: None)
    params = {"name": "a", "group": "g", "role": "decider", "phases": ["auth"], "mode": mode}
    link.registration = read_registration(params)
    link.ask(evolve(question(phase="auth"), password="correct horse"), 5.0)
    assert (b"correct horse" in await link.outbox.take()) is shown


async def test_what_is_told_of_auth_holds_no_password() -> None:
    hub = Hub()
    links = []
    for params in (
        {"name": "o", "notifications": ["session.*", "session.phase"]},
        {"name": "s", "group": "g", "role": "decider", "phases": ["auth"], "mode": "shadow"},
    ):
        links.append(hub.add_client(LOCAL, admin=True, disconnect=lambda: None))
        await hub.receive_message(
            links[-1], encode_json({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        )
        await links[-1].outbox.take()
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        hub.report_outcome(evolve(question(phase="auth"), password="correct horse"), Outcome(decision="accepted"))
        told = [await link.outbox.take() for link in links]
        nursery.cancel_scope.cancel()
    assert b"session.phase" in told[0]
    assert b"validate_auth" in told[1]
    assert not any(b"correct horse" in each for each in told)


# Clients that fall silent


async def test_a_client_that_does_not_answer_a_ping_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub()
    told: list[ServerEvent] = []
    hub.on_event = told.append
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.serve_client, theirs, LOCAL)
        await ours.send_all(UPGRADE)
        assert b" 101 " in await ours.receive_some()
        params = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"name":"mute"}}'
        await ours.send_all(b"\x81" + bytes((0x80 | len(params),)) + bytes(4) + params)
        with trio.fail_after(60):
            while await ours.receive_some():
                pass
    assert isinstance(told[-1], PolicyClientDisconnected)
    assert told[-1].reason == "too slow: no pong came"
    assert told[-1].seconds == pytest.approx(40, abs=1)


# Bounded memory


def test_questions_and_answers_that_wait_are_bounded_by_octets_too() -> None:
    box = Outbox(10, 1000, 100, 50)
    assert box.put_urgent(b"x" * 50)
    assert not box.put_urgent(b"x")


async def test_room_comes_back_when_frames_leave() -> None:
    box = Outbox(10, 1000, 100, 50)
    for _ in range(3):
        assert box.put_urgent(b"x" * 50)
        assert len(await box.take()) == 50


async def test_names_of_groups_and_shadows_do_not_pile_up() -> None:
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


async def test_there_are_only_so_many_shadows() -> None:
    hub = Hub()
    for number in range(257):
        link = hub.add_client(LOCAL, admin=False, disconnect=lambda: None)
        params = f'{{"name":"n{number}","group":"g","role":"decider","phases":["data"],"mode":"shadow"}}'
        await hub.receive_message(link, f'{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}')
        answer = await link.outbox.take()
        assert (b"deciders in shadow already" in answer) is (number == 256)
    assert link.registration is None
    hub.remove_client(link)


async def test_a_request_that_fails_is_answered_and_the_client_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def sessions(self) -> Any:
            raise OSError("disk on fire")

    async with open_stage() as stage:
        stage.hub.attach(Broken())  # type: ignore[arg-type]  # as much of a host as is asked for
        raw = await stage.raw(token="a" * 16)
        await raw.initialize()
        await raw.send(id=2, method="session.list")
        answer = await raw.read()
        assert answer["error"]["code"] == -32000
        assert "disk" not in answer["error"]["message"]
        assert "disk on fire" in caplog.text
        caplog.clear()
        await raw.send(id=3, method="policy.groups")
        assert "result" in await raw.read()


# What a decider is shown of a header


def test_only_line_ends_end_a_field() -> None:
    block = (
        b"Subject: hi\x0bFrom: a\r\nA: b\xc2\x85To: c\r\nB : d\x1cX: e\xe2\x80\xa8Y: f\r\n\tfolded\r\nno field\r\nC:\n"
    )
    fields = header_fields(block)["headers"]
    assert [name for name, _ in fields] == ["Subject", "A", "B", "C"]
    assert fields[2][1].endswith("f\tfolded")


@pytest.mark.parametrize(("line", "shown"), [(b"a: b\r\n", 1000), (b":\n", 1000), (b"\n", 0), (b" x\n", 0)])
def test_a_header_of_many_fields_is_shown_to_a_bound(line: bytes, shown: int) -> None:
    answer = header_fields(line * 30_000)
    assert len(answer["headers"]) == shown
    assert answer["headers_truncated"]
    assert "headers_truncated" not in header_fields(b"a: b\r\n" * 1000)


# Shadows


def strict(stage: Stage, name: str = "strict", *, seconds: float = 0.2) -> PolicyClient:
    client = PolicyClient("unix:/memory", name=name, group="fraud", mode="shadow")

    @client.on("mailfrom")
    async def decide(request: PolicyRequest) -> None:
        await trio.sleep(seconds)
        raise Reject(550, "5.7.1", "no")

    return client


async def test_a_shadow_that_answers_when_all_is_over_is_counted(autojump_clock: trio.testing.MockClock) -> None:
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
