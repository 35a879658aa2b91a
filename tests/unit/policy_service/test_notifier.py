"""Notifications: which clients receive them, and how many are lost."""

from typing import Any

import trio
import trio.testing
import trio_websocket
from policy_stage import BODY, LOCAL, Raw, mail, open_stage, watch

from triosmtp.event import Disconnected, SessionInfo
from triosmtp.policy_service.hub import HubLimits
from triosmtp.policy_service.json_rpc import PROTOCOL


async def test_an_observer_is_notified_of_a_session_from_beginning_to_end() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        notes = await watch(stage, "*", variables=["ehlo_domain"])
        quiet = await watch(stage, "session.closed", peers=["10.0.0.0/8"])
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


async def test_session_phase_contains_the_outcome() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        notes = await watch(stage, "session.phase")
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


async def test_an_observer_that_does_not_read_loses_notifications_and_receives_their_number(
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
        keeping_up = await watch(stage, "session.*")
        for _ in range(20):
            session = await stage.hello()
            await session.command("QUIT")
            await trio.testing.wait_all_tasks_blocked()
        assert len(keeping_up) == 40
        link = stage.hub._clients[0]
        assert len(link.outbox._notifications) == 5
        lost = link.outbox.lost
        assert lost > 30
        assert stage.hub.notifications_lost == lost
        theirs.send_stream.send_all_hook = None
        window.set()
        await trio.testing.wait_all_tasks_blocked()
        session = await stage.hello()
        seen: dict[str, Any] = {}
        while "lost" not in seen:
            seen = (await raw.read())["params"]
        assert seen["lost"] == lost
        assert stage.hub.notifications_lost == lost


async def test_notifications_that_wait_are_sent_before_the_end_of_the_listen_closes_the_client() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        raw = await stage.raw()
        await raw.initialize(notifications=["session.*"])
        for number in range(3):
            info = SessionInfo(id=f"s-{number}", peer="192.0.2.1:1", local="", listener=":25")
            stage.hub.observe(Disconnected(session=info, reason="quit", seconds=1.0, messages=0))
        stage.hub.close_clients(at={"policy"})
        assert [(await raw.read())["params"]["session"] for _ in range(3)] == ["s-0", "s-1", "s-2"]
        assert await raw.ended() == 1001
