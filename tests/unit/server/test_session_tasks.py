"""Sessions run one after the other in the same tasks, and know nothing of one another."""

import gc
import weakref
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triosmtp import Policy
from triosmtp.config import parse_config
from triosmtp.event import Disconnected
from triosmtp.server import session_tasks
from triosmtp.server.server import run_server
from triosmtp.server.session.driver import SMTPSession
from triosmtp.server.startup import open_service
from triosmtp.sockets.bound_socket import plan_sockets
from triosmtp.testing import MemoryServer, open_memory_server

CONF = 'ESMTP_Listener { Listen "127.0.0.1:0" { } }\nRelay_Domains = ( "example.com" )'
_seen: ContextVar[str] = ContextVar("_seen", default="nothing")


class Recorder(Policy):
    """Records the task of each session, and sets a context variable in it."""

    def __init__(self) -> None:
        self.tasks: list[trio.lowlevel.Task] = []
        self.names: list[str] = []
        self.values: list[str] = []

    async def validate_connect(self, session: Any) -> None:
        task = trio.lowlevel.current_task()
        self.tasks.append(task)
        self.names.append(task.name)
        self.values.append(_seen.get())
        _seen.set(session.id)


async def visit(server: MemoryServer) -> None:
    client = server.connect()
    assert (await client.read()).code == 220
    assert (await client.command("QUIT")).code == 221
    await wait_all_tasks_blocked()


def only_session(server: MemoryServer) -> SMTPSession:
    [session] = server.service.running
    assert isinstance(session, SMTPSession)
    return session


async def test_one_task_runs_one_session_after_the_other() -> None:
    policy = Recorder()
    async with open_memory_server(CONF, policy=policy) as server:
        for _ in range(4):
            await visit(server)
        ids = [event.session.id for event in server.events if isinstance(event, Disconnected)]
        assert policy.tasks[0].name == session_tasks.IDLE_TASK
    assert len(set(ids)) == 4
    assert len(set(policy.tasks)) == 1
    assert policy.names == [f"session {each}" for each in ids]
    assert policy.values == ["nothing"] * 4


async def test_sessions_at_once_have_tasks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_tasks, "_MAX_IDLE", 3)
    policy = Recorder()
    async with open_memory_server(CONF, policy=policy) as server:
        clients = [server.connect() for _ in range(5)]
        for client in clients:
            assert (await client.read()).code == 220
        assert len(set(policy.tasks)) == 5
        for client in clients:
            await client.command("QUIT")
        await wait_all_tasks_blocked()
        assert server._acceptor._tasks.idle == 3
        await visit(server)
        assert server._acceptor._tasks.idle == 3
    assert len(set(policy.tasks)) == 5


@pytest.mark.parametrize("end", ["close", "expire", "time_out"])
async def test_a_session_that_is_ended_does_not_end_the_next(end: str) -> None:
    policy = Recorder()
    async with open_memory_server(CONF, policy=policy) as server:
        client = server.connect()
        await client.read()
        session = only_session(server)

        def end_it() -> None:
            if end == "time_out":
                session.check_timeouts(trio.current_time() + 100_000)
            else:
                getattr(session, end)()

        end_it()
        assert (await client.read()).code == 421
        await wait_all_tasks_blocked()
        following = server.connect()
        await following.read()
        end_it()  # again, when it has ended and its task runs another session
        assert (await following.command("NOOP")).code == 250
        await following.command("QUIT")
        await wait_all_tasks_blocked()
    assert len(set(policy.tasks)) == 1
    reasons = [event.reason for event in server.events if isinstance(event, Disconnected)]
    assert reasons == [{"close": "closed", "expire": "idle", "time_out": "idle"}[end], "quit"]


async def test_a_failed_session_does_not_end_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Recorder()
    async with open_memory_server(CONF, policy=policy) as server:
        with monkeypatch.context() as patch:
            patch.setattr(SMTPSession, "_converse", None)
            client = server.connect()
            assert (await client.read()).code == 220
            assert (await client.read()).code == 421
            await wait_all_tasks_blocked()
        await visit(server)
    assert len(set(policy.tasks)) == 1


@pytest.mark.parametrize("expires", [False, True])
async def test_a_scope_that_a_policy_leaves_open_ends_its_session_alone(
    expires: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class LeaveOpen(Recorder):
        left: trio.CancelScope | None = None

        async def validate_connect(self, session: Any) -> None:
            await super().validate_connect(session)
            if self.left is None:
                self.left = trio.CancelScope()
                self.left.__enter__()
                if expires:
                    self.left.cancel()

    policy = LeaveOpen()
    async with open_memory_server(CONF, policy=policy) as server:
        client = server.connect()
        await client.read()
        if not expires:
            await client.command("QUIT")
        await wait_all_tasks_blocked()
        following = server.connect()
        assert (await following.read()).code == 220
        assert policy.left is not None
        policy.left.cancel()
        assert (await following.command("NOOP")).code == 250
        await following.command("QUIT")
        await wait_all_tasks_blocked()
    assert len(set(policy.tasks)) == 2
    assert [event.reason for event in server.events if isinstance(event, Disconnected)] == ["failed", "quit"]
    assert "Cancel scope stack corrupted" in caplog.text


async def test_a_task_that_waits_keeps_no_session() -> None:
    async with open_memory_server(CONF) as server:
        for _ in range(2):
            client = server.connect()
            await client.read()
            session = weakref.ref(only_session(server))
            await client.command("QUIT")
            await wait_all_tasks_blocked()
            gc.collect()
            assert session() is None


@pytest.mark.parametrize("busy", [False, True])
async def test_the_server_ends_though_tasks_wait(busy: bool) -> None:
    service = await open_service(parse_config(CONF))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(run_server, service, plan_sockets(service.config).opened)
        [address] = server.addresses.values()
        stream = await trio.open_tcp_stream(*address)
        await stream.receive_some()
        other = await trio.open_tcp_stream(*address)
        await other.receive_some()
        await other.send_all(b"QUIT\r\n")
        while await other.receive_some():
            pass
        if not busy:
            await stream.send_all(b"QUIT\r\n")
        with trio.fail_after(10):
            await server.aclose(grace=5)
        replies = b""
        while data := await stream.receive_some():
            replies += data
        assert replies.startswith(b"421 4.3.2" if busy else b"221")
        await stream.aclose()
        await other.aclose()


async def test_a_session_of_a_cancelled_server_sends_its_last_reply() -> None:
    async with open_memory_server(CONF) as server:
        await visit(server)
        client = server.connect()
        await client.read()
        server.nursery.cancel_scope.cancel()
        assert (await client.read()).code == 421
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["quit", "cancelled"]


async def test_a_session_that_is_started_as_the_server_is_cancelled() -> None:
    async with open_memory_server(CONF) as server:
        await visit(server)
        server.connect()
        server.nursery.cancel_scope.cancel()
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["quit", "cancelled"]
    assert server.service.statistics.sessions == 0
