"""The thread with an asyncio event loop: results, exceptions, cancellation, and new connections."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from nats_servers import NATSProcess, free_ports

from triosmtp.jetstream.nats_client import NATSConnection, NATSLogin
from triosmtp.jetstream.nats_thread import NATSThread, NATSUnavailableError


async def wait_forever(_connection: NATSConnection) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def open_thread(port: int, serve: Any = wait_forever) -> AsyncIterator[NATSThread]:
    thread = NATSThread((("127.0.0.1", port),), NATSLogin(), serve)
    try:
        yield thread
    finally:
        await thread.aclose()


async def test_a_function_runs_in_the_thread_and_its_result_comes_back(nats_server: NATSProcess) -> None:
    async def name(prefix: str) -> str:
        await asyncio.sleep(0)
        return prefix + threading.current_thread().name

    async with open_thread(nats_server.port) as thread:
        assert await thread.call(name, "in ") == "in triosmtp-nats"


async def test_an_exception_comes_back(nats_server: NATSProcess) -> None:
    async def fail() -> None:
        raise KeyError("x")

    async with open_thread(nats_server.port) as thread:
        with pytest.raises(KeyError):
            await thread.call(fail)


async def test_a_cancelled_call_cancels_the_function(nats_server: NATSProcess) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with open_thread(nats_server.port) as thread, trio.open_nursery() as nursery:
        nursery.start_soon(thread.call, wait)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
    assert cancelled.wait(10)


async def test_a_call_ends_when_the_thread_is_closed(nats_server: NATSProcess) -> None:
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async def call() -> None:
        with pytest.raises(NATSUnavailableError):
            await thread.call(wait)

    async with open_thread(nats_server.port) as thread, trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.to_thread.run_sync(started.wait)
        await thread.aclose()
        with pytest.raises(NATSUnavailableError):
            await thread.call(wait)


async def test_a_connection_is_opened_again_if_serving_it_fails(
    nats_server: NATSProcess, caplog: pytest.LogCaptureFixture
) -> None:
    served: list[NATSConnection] = []
    again = threading.Event()

    async def serve(connection: NATSConnection) -> None:
        served.append(connection)
        if len(served) == 1:
            raise RuntimeError("broken")
        again.set()
        await wait_forever(connection)

    async with open_thread(nats_server.port, serve) as thread:
        thread.start()
        assert await trio.to_thread.run_sync(again.wait, 20)
        assert await thread.call(thread.connection, 5.0) is served[1]
        assert thread.failure == ""
    assert served[0].closed.is_set()
    assert "RuntimeError: broken" in caplog.text


async def test_without_a_server_a_connection_is_waited_for_within_its_time() -> None:
    (port,) = free_ports(1)
    async with open_thread(port) as thread:
        with pytest.raises(NATSUnavailableError, match=f"127.0.0.1:{port}"):
            await thread.call(thread.connection, 0.1)
    assert thread.failure == "closed"


async def test_a_thread_that_never_started_is_closed_at_once() -> None:
    async with open_thread(1) as thread:
        thread.notify(lambda: None)
    thread.start()
    assert "triosmtp-nats" not in {each.name for each in threading.enumerate()}
