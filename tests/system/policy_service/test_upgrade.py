"""The upgrade: clients that are refused, and clients that may make requests of an administrator."""

import random
from base64 import b64encode
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from policy_stage import LOCAL, open_stage

from triosmtp.event import (
    PolicyClientDisconnected,
    PolicyClientRefused,
    ServerEvent,
)
from triosmtp.policy_service.hub import ClientAccess, Hub
from triosmtp.policy_service.json_rpc import PROTOCOL

ORIGIN = (b"Origin", b"https://evil.example")


TLS = ClientAccess(listener="p", peer="x", encrypted=True)


TCP = ClientAccess(listener="policy", peer="192.0.2.9:1", token="t" * 16, admin_token="a" * 16)


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: policy.v1.triosmtp\r\n\r\n"
)


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
async def test_upgrades_that_are_refused(access: ClientAccess, upgrade: dict[str, Any], status: int) -> None:
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
async def test_upgrades_that_are_accepted_and_the_admin_token(access: ClientAccess, token: str, admin: bool) -> None:
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
async def test_a_program_that_sends_origin_needs_a_token(access: ClientAccess, token: str, origin: bytes) -> None:
    async with open_stage() as stage:
        raw = await stage.raw(access, token=token, headers=[(b"Origin", origin)])
        assert (await raw.initialize())["result"]["protocol"] == PROTOCOL


async def test_a_silent_client_is_disconnected(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub()
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(15):
        await hub.serve_client(theirs, LOCAL)
    assert await ours.receive_some() == b""


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
async def test_bytes_that_are_no_websocket_affect_only_their_sender(
    data: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    hub = Hub()
    await send_raw(hub, data)
    assert not hub.clients()


@pytest.mark.parametrize("where", [b"policy.v1.triosmtp", b"Upgrade\r\n"])
async def test_an_upgrade_that_is_not_ascii_is_refused_with_an_event(
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
