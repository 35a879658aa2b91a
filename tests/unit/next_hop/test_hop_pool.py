"""The connections of one next hop: their number, the share of one client, reuse, and clients that stop."""

import os
from pathlib import Path

import pytest
import trio
from scripted_hop import ORIGIN, SILENCE, ScriptedHop, connected, envelope, message, origin

from triosmtp.delivery import RecipientResult
from triosmtp.message import Recipient
from triosmtp.next_hop import hop_pool
from triosmtp.next_hop.hop_settings import HopTimeouts
from triosmtp.smtp import Address

STOPPED = 2000 if os.environ.get("TRIOSMTP_JUDGE") == "1" else 40
A = Recipient(Address("a", "example.com"), {})


async def test_a_connection_is_reused_within_its_bound(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop, max_deliveries=3) as (delivery, health):
        for _ in range(7):
            await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
        assert health.connections == 1
    assert [session.count("DATA") for session in hop.sessions] == [3, 3, 1]
    assert health.connections == 0


async def test_no_more_connections_than_allowed(tmp_path: Path) -> None:
    hop = ScriptedHop()
    results: list[RecipientResult] = []

    async def one(number: int) -> None:
        transaction = delivery.begin(envelope(), origin(f"192.0.2.{number}"))
        await transaction.verify(A)
        results.extend(await transaction.deliver_each(message("a@example.com")))
        transaction.close()

    async with connected(tmp_path, hop, max_connections=3) as (delivery, health):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
        assert health.connections <= 3
    assert [each.code for each in results] == [250] * 30
    assert hop.most_open <= 3
    assert len(hop.messages) == 30


async def test_clients_that_stop_after_rcpt_do_not_starve_others(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop, max_connections=4) as (delivery, _):
        stopped = []
        for number in range(STOPPED):
            transaction = delivery.begin(envelope(), origin(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
            assert (await transaction.verify(A)).code == 250
            stopped.append(transaction)
        for number in range(10):
            transaction = delivery.begin(envelope(), origin(f"192.0.2.{number}"))
            assert (await transaction.verify(A)).code == 250
            assert [each.code for each in await transaction.deliver_each(message("a@example.com"))] == [250]
            transaction.close()
        assert len(hop.messages) == 10
        results = await stopped[0].deliver_each(message("a@example.com", body=b"late: 1\r\n"))
        assert [each.code for each in results] == [250], "opened anew"
    assert hop.most_open <= 4
    assert len(hop.sessions) == 4, "connections are reused"
    assert hop.messages[-1].data.endswith(b"late: 1\r\n")


async def test_a_transaction_that_lost_its_connection_takes_no_other_ones_for_its_own(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop, max_connections=1) as (delivery, _):
        first, second = (delivery.begin(envelope(), origin(f"192.0.2.{number}")) for number in (1, 2))
        await first.verify(A)
        await second.verify(Recipient(Address("b", "example.com"), {}))
        await first.deliver_each(message("a@example.com"))
        await second.deliver_each(message("b@example.com"))
    assert [each.recipients for each in hop.messages] == [["a@example.com"], ["b@example.com"]]


async def test_one_address_has_half_of_the_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_pool, "WAIT", 0.1)
    hop = ScriptedHop({"RCPT slow@example.com": SILENCE})
    async with connected(tmp_path, hop, max_connections=4) as (delivery, health):
        async with trio.open_nursery() as nursery:
            slow = Recipient(Address("slow", "example.com"), {})
            for _ in range(4):
                nursery.start_soon(delivery.begin(envelope(), ORIGIN).verify, slow)
            await trio.testing.wait_all_tasks_blocked()
            result = await delivery.begin(envelope(), ORIGIN).verify(A)
            assert (result.code, result.enhanced) == (451, "4.3.2")
            assert (await delivery.begin(envelope(), origin("198.51.100.1")).verify(A)).code == 250
            nursery.cancel_scope.cancel()
        assert health.failing_since is None, "load is no fault of the hop"
        assert health.connections == 1


async def test_a_transaction_without_progress_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_pool, "HELD", 0.0)
    monkeypatch.setattr(hop_pool, "_LOOK", 0.01)
    reset = trio.Event()

    async def before(command: str) -> None:
        if command == "RSET":
            reset.set()

    hop = ScriptedHop(before=before)
    async with connected(tmp_path, hop) as (delivery, _), trio.open_nursery() as nursery:
        nursery.start_soon(delivery._hop.pool.run)
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        with trio.fail_after(5):
            await reset.wait()
        assert [each.code for each in await transaction.deliver_each(message("a@example.com"))] == [250]
        nursery.cancel_scope.cancel()
    assert hop.commands.count("RCPT TO:<a@example.com>") == 2


async def test_a_closed_transaction_is_reset_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_pool, "_LOOK", 0.01)
    reset = trio.Event()

    async def before(command: str) -> None:
        if command == "RSET":
            reset.set()

    async with connected(tmp_path, ScriptedHop(before=before)) as (delivery, _), trio.open_nursery() as nursery:
        nursery.start_soon(delivery._hop.pool.run)
        transaction = delivery.begin(envelope(), ORIGIN)
        await transaction.verify(A)
        transaction.close()
        transaction.close()
        with trio.fail_after(5):
            await reset.wait()
        nursery.cancel_scope.cancel()


async def test_idle_connections_end_with_quit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_pool, "_LOOK", 0.01)
    ended = trio.Event()

    async def before(command: str) -> None:
        if command == "QUIT":
            ended.set()

    hop = ScriptedHop(before=before)
    async with connected(tmp_path, hop, timeouts=HopTimeouts(idle=0.0)) as (delivery, health):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery._hop.pool.run)
            await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            with trio.fail_after(5):
                await ended.wait()
            nursery.cancel_scope.cancel()
        assert health.connections == 0


async def test_refusals_wear_a_connection_out(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT": "550 5.1.1 No such user"})
    async with connected(tmp_path, hop) as (delivery, _):
        for _ in range(20):
            transaction = delivery.begin(envelope(), ORIGIN)
            assert (await transaction.verify(A)).code == 550
            transaction.close()
    assert [session.count("RCPT TO:<a@example.com>") for session in hop.sessions] == [8, 8, 4]


async def test_a_hop_that_comes_back_is_used(tmp_path: Path) -> None:
    hop = ScriptedHop({"banner": "554 5.7.1 Go away"})
    async with connected(tmp_path, hop) as (delivery, health):
        assert (await delivery.begin(envelope(), ORIGIN).verify(A)).code == 451
        failing = [health.failing_since is not None]
        hop.answers.clear()
        assert (await delivery.begin(envelope(), ORIGIN).verify(A)).code == 250
        failing.append(health.failing_since is not None)
        assert failing == [True, False]
        assert health.connections == 1


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("number", range(8))
async def test_a_cancelled_step_leaves_nothing_taken(tmp_path: Path, number: int, lmtp: bool) -> None:
    """Regardless of the step: the connection is closed, and its place is free."""
    scope = trio.CancelScope()
    seen = 0

    async def before(_command: str) -> None:
        nonlocal seen
        seen += 1
        if seen > number:
            scope.cancel()

    hop = ScriptedHop(before=before, lmtp=lmtp)
    async with connected(tmp_path, hop, max_connections=1) as (delivery, health):
        with scope:
            transaction = delivery.begin(envelope(), ORIGIN)
            await transaction.verify(A)
            await transaction.deliver_each(message("a@example.com"))
        complete = len(hop.messages)
        hop.before = None
        for _ in range(2):
            (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            assert result.code == 250
        assert health.connections == 1
        assert len(hop.messages) == complete + 2
