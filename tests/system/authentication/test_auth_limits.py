"""What attempts to authenticate may cost: how many wait, whose turn is next, who has gone, and how many may fail."""

import base64
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, field

import triosmtp
from triosmtp import DONE, AuthAttempt, Policy, Reject, Server, Session
from triosmtp.auth import PasswordFile, StoredCredentials
from triosmtp.event import AuthAttempted, Disconnected, Refused, ServerEvent
from triosmtp.limits.peer_count import PeerTable
from triosmtp.policy.interface import Done
from triosmtp.sockets.transport import SocketTransport
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
CONF = """
Auth_Failure_Delay = 0.001 Allow_Plaintext_Auth = true Max_Auth_Failures = 0
Max_Junk_Commands = 0 Max_Command_Errors = 0
{more}
ESMTP_Listener {{ Listen "{listen}" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN LOGIN" ) }} }}
"""
BUSY = "454 4.7.0 Temporary authentication failure"


def plain(secret: str = "right") -> str:
    return f"AUTH PLAIN {base64.b64encode(chr(0).join(('', 'joe', secret)).encode()).decode()}"


# The queue


@pytest.mark.parametrize("how", ["closed", "closed behind octets", "reset", "half-closed"])
def test_a_peer_that_has_gone_is_seen_without_reading(how: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        transport = SocketTransport(listener.accept()[0])
        assert not transport.is_gone()
        client.sendall(b"octets")
        assert not transport.is_gone()
        if how != "closed behind octets":
            assert transport._socket.recv(100) == b"octets"
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half-closed":
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        assert transport.is_gone()
        client.close()
        transport.close()
        assert transport.is_gone()


# The queue before the threads that hash


@define
class HeldLookups:
    """Holds the threads that look up passwords, and counts them."""

    open: threading.Event = field(factory=threading.Event)
    users: list[str] = field(factory=list)

    def make_lookup(self) -> Callable[[PasswordFile, str], StoredCredentials]:
        lookup = PasswordFile.lookup

        def held(file: PasswordFile, user: str) -> StoredCredentials:
            self.users.append(user)
            assert self.open.wait(60)
            return lookup(file, user)

        return held


@define
class Site:
    events: list[ServerEvent] = field(factory=list)
    server: Server = field(init=False)
    _more: trio.Event = field(factory=trio.Event)

    async def connect(self, address: str) -> ScriptedClient:
        where = self.server.addresses["127.0.0.1:0"]
        client = ScriptedClient(await trio.open_tcp_stream(*where, local_address=address))
        await client.read()
        await client.command("EHLO x")
        return client

    def hear(self, event: ServerEvent) -> None:
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    def ended(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Disconnected)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that an event brings about."""
        with trio.fail_after(60):
            while not condition():
                await self._more.wait()


@asynccontextmanager
async def site(folder: Path, more: str = "") -> AsyncIterator[Site]:
    (folder / "passwords").write_text("joe:right\n")
    more += f' AuthPlainParameters = [ uri = "file://{folder}/passwords" ]'
    config = triosmtp.parse_config(CONF.format(more=more, listen="127.0.0.1:0"))
    here = Site()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STATE_DIRECTORY", str(folder / "state"))
        async with trio.open_nursery() as nursery:
            here.server = await nursery.start(partial(triosmtp.serve, config, observers=[here.hear]))
            yield here
            nursery.cancel_scope.cancel()


async def test_a_flood_of_attempts_of_disconnected_clients_blocks_no_other_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = HeldLookups()
    monkeypatch.setattr(PasswordFile, "lookup", lookups.make_lookup())
    count = 1000 if JUDGE else 100
    async with site(tmp_path, "Auth_Failure_Rate_Per_Peer = off") as here:
        try:
            hashing = here.server.service.limits.hashing
            answers: list[str] = []
            flood = [await here.connect("127.0.0.2") for _ in range(count)]
            async with trio.open_nursery() as nursery:

                async def attempt(client: ScriptedClient) -> None:
                    try:
                        answers.append(str(await client.command(plain("wrong"))))
                    except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
                        return

                for client in flood:
                    nursery.start_soon(attempt, client)
                # Two are computed, four wait; all others get a temporary error at once.
                await trio.testing.wait_all_tasks_blocked()
                assert answers == [BUSY] * (count - 6)
                assert (hashing.taken, hashing.waiting) == (2, 4)
                refused = [event for event in here.events if isinstance(event, Refused)]
                assert {(each.phase, each.code, each.decided_by) for each in refused} == {("auth", 454, "limit")}
                for client in flood:
                    await client.aclose()
                honest = await here.connect("127.0.0.3")
                results: list[str] = []

                async def log_in() -> None:
                    results.append(str(await honest.command(plain())))

                nursery.start_soon(log_in)
                await trio.testing.wait_all_tasks_blocked()
                assert hashing.waiting == 5
                lookups.open.set()
            assert results[0].startswith("235 ")
            await here.until(lambda: len(here.ended()) == count)
            assert len(lookups.users) == 3  # the two of the flood that had begun, and the honest one
            attempts = [event for event in here.events if isinstance(event, AuthAttempted)]
            assert sorted(each.succeeded for each in attempts) == [False, False, True]
            assert here.ended() == ["peer_closed"] * count
            await honest.aclose()
        finally:
            lookups.open.set()


async def test_addresses_have_their_turns_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = HeldLookups()
    monkeypatch.setattr(PasswordFile, "lookup", lookups.make_lookup())
    async with site(tmp_path, "Auth_Failure_Rate_Per_Peer = off") as here:
        try:
            hashing = here.server.service.limits.hashing
            clients = []
            for number, address in enumerate(["127.0.0.2"] * 6 + ["127.0.0.3"]):
                client = await here.connect(address)
                await client.send(f"{plain()}\r\n".encode())
                await trio.testing.wait_all_tasks_blocked()
                assert hashing.taken + hashing.waiting == number + 1
                clients.append(client)
            lookups.open.set()
            for client in clients:
                assert (await client.read()).code == 235
                await client.aclose()
            served = [event.session.peer.partition(":")[0] for event in here.events if isinstance(event, AuthAttempted)]
            # At the end of a FIFO it would be the last one.  Threads that run side by side may end in either order.
            assert served.index("127.0.0.3") <= 4
        finally:
            lookups.open.set()


async def test_a_file_system_that_hangs_holds_up_two_sessions_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, refresh = threading.Event(), PasswordFile.refresh

    def held(file: PasswordFile) -> None:
        assert release.wait(60)
        refresh(file)

    (tmp_path / "passwords").write_text("joe:right\n")
    more = f'AuthPlainParameters = [ uri = "file://{tmp_path}/passwords" ]'
    async with open_memory_server(CONF.format(more=more, listen=":25")) as server:
        monkeypatch.setattr(PasswordFile, "is_due", lambda _file, _now: True)
        monkeypatch.setattr(PasswordFile, "refresh", held)
        try:
            stuck = [server.connect() for _ in range(2)]
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                client = server.connect()
                with trio.fail_after(30):
                    assert (await client.read()).code == 220
                    assert "AUTH PLAIN LOGIN" in (await client.command("EHLO x")).lines
            assert len(server.service.running) == 5
        finally:
            release.set()
        for client in stuck:
            assert (await client.read()).code == 220


# The rate of failures


class Judge(Policy):
    """Lets `right` in, refuses `wrong`, cannot tell for `later`; and may be held."""

    def __init__(self) -> None:
        self.asked = 0
        self.released = trio.Event()
        self.released.set()

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> Done | None:
        self.asked += 1
        await self.released.wait()
        if attempt.password == "right":
            return DONE
        if attempt.password == "later":
            raise Reject(451, "4.3.0", "later")
        raise Reject(535, "5.7.8", "no")


@asynccontextmanager
async def judged(more: str = "") -> AsyncIterator[tuple[MemoryServer, Judge]]:
    judge = Judge()
    async with open_memory_server(CONF.format(more=more, listen=":25"), policy=judge) as server:
        yield server, judge


async def answer(server: MemoryServer, peer: str, *lines: str) -> list[int]:
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO x")
    codes = [(await client.command(line)).code for line in lines]
    await client.aclose()
    return codes


async def test_an_address_that_fails_too_often_is_not_heard_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with judged() as (server, judge):
        assert await answer(server, "192.0.2.1", *[plain("wrong")] * 21) == [535] * 20 + [454]
        assert judge.asked == 20
        # No connection shows whether the password would have been right.
        assert await answer(server, "192.0.2.1", plain(), "AUTH LOGIN") == [454, 454]
        assert await answer(server, "192.0.2.2", plain("wrong"), plain()) == [535, 235]
        refused = [event for event in server.events if isinstance(event, Refused) and event.code == 454]
        assert {(each.decided_by, each.reason) for each in refused} == {("limit", "Auth_Failure_Rate_Per_Peer")}
        await trio.sleep(60)
        assert await answer(server, "192.0.2.1", plain("wrong"), plain()) == [535, 235]


async def test_the_addresses_of_one_host_count_together() -> None:
    async with judged('Auth_Failure_Rate_Per_Peer = "3/60"') as (server, _):
        for peer in ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"):
            assert await answer(server, peer, plain("wrong")) == [535]
        assert await answer(server, "2001:db8::3", plain()) == [454]
        assert await answer(server, "2001:db8:0:1::3", plain()) == [235]


async def test_only_wrong_passwords_are_counted() -> None:
    async with judged('Auth_Failure_Rate_Per_Peer = "2/60"') as (server, _):
        assert await answer(server, "192.0.2.1", *[plain("later")] * 5) == [451] * 5
        for _ in range(5):
            assert await answer(server, "192.0.2.1", plain()) == [235]
        assert await answer(server, "192.0.2.1", *["AUTH LOGIN", "*"] * 5) == [334, 501] * 5
        user = base64.b64encode(b"joe").decode()
        lines = ["AUTH LOGIN", user, base64.b64encode(b"wrong").decode()] * 2
        assert await answer(server, "192.0.2.1", *lines, plain()) == [334, 334, 535] * 2 + [454]


async def test_an_exchange_under_way_is_refused_as_well() -> None:
    async with judged('Auth_Failure_Rate_Per_Peer = "2/60"') as (server, judge):
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        assert (await client.command("AUTH LOGIN " + base64.b64encode(b"joe").decode())).code == 334
        assert await answer(server, "192.0.2.1", *[plain("wrong")] * 2) == [535] * 2
        assert (await client.command(base64.b64encode(b"right").decode())).code == 454
        assert (await client.command("NOOP")).code == 250
        assert judge.asked == 2


async def test_attempts_at_the_same_time_do_not_all_pass() -> None:
    async with judged('Auth_Failure_Rate_Per_Peer = "5/60"') as (server, judge):
        judge.released = trio.Event()
        codes: list[int] = []
        async with trio.open_nursery() as nursery:

            async def attempt() -> None:
                codes.extend(await answer(server, "192.0.2.1", plain("wrong")))

            for _ in range(12):
                nursery.start_soon(attempt)
            await trio.testing.wait_all_tasks_blocked()
            assert (judge.asked, codes) == (5, [454] * 7)
            judge.released.set()
        assert sorted(codes) == [454] * 7 + [535] * 5


@pytest.mark.parametrize(
    "more", ["Auth_Failure_Rate_Per_Peer = off", 'Relay_Hosts = ( "192.0.2.0/24" ) Auth_Failure_Rate_Per_Peer = 3/60']
)
async def test_it_can_be_turned_off_and_is_not_for_relay_hosts(more: str) -> None:
    async with judged(more) as (server, _):
        assert await answer(server, "192.0.2.1", *[plain("wrong")] * 30, plain()) == [535] * 30 + [235]


def test_a_withdrawn_attempt_does_not_raise_the_limit() -> None:
    table, (peer, other) = PeerTable(), map(ip_address, ("192.0.2.1", "192.0.2.2"))
    table.uncount(peer)
    for _ in range(5):
        assert table.count(peer, (1, 60), 0)
        table.uncount(peer)
        table.uncount(peer)
    assert table.count(peer, (1, 60), 0)
    assert not table.count(peer, (1, 60), 59)
    assert table.count(other, (1, 60), 59)
    assert table.count(peer, (1, 60), 60)
