"""One client of a policy service: what breaks, what hangs, and what is kept."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import pytest
import trio
import trio.testing
from policyd_service import PolicydService, Request, action, policyd_service, raw

from triosmtp.filters.policyd_client import MAX_CONNECTIONS, PolicydClient
from triosmtp.policy_service.circuit_breaker import NoAnswerError
from triosmtp.policy_service.filter_registry import FilterKey
from triosmtp.policy_service.hub_limits import HubLimits

REQUEST = b"request=smtpd_access_policy\n\n"


@contextmanager
def client_of(service: PolicydService) -> Iterator[PolicydClient]:
    limits = HubLimits(breaker_timeouts=2, breaker_seconds=1000)
    client = PolicydClient(FilterKey("filter:x", service.address, ("rcptto",)), limits)
    yield client
    client.close()
    assert client.status()["deciders"] == 0


async def test_one_connection_carries_many_questions() -> None:
    with policyd_service("OK") as service, client_of(service) as client:
        assert [await client.ask(REQUEST, 30) for _ in range(5)] == ["OK"] * 5
        assert service.connections == 1
        status = client.status()
        assert (status["deciders"], status["asked"], status["answered"], status["outstanding"]) == (1, 5, 5, 0)


async def test_connections_are_bounded_and_further_questions_wait() -> None:
    release, asked = Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    waiting = 0

    def hold(_request: Request, connection: socket.socket) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == MAX_CONNECTIONS:
            token.run_sync_soon(asked.set)
        release.wait(30)
        connection.sendall(b"action=OK\n\n")

    with policyd_service(hold) as service, client_of(service) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_CONNECTIONS + 5):
                nursery.start_soon(client.ask, REQUEST, 30)
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert client.status()["outstanding"] == MAX_CONNECTIONS + 5
            assert service.connections == MAX_CONNECTIONS == client.status()["deciders"]
            release.set()
        assert client.status()["answered"] == MAX_CONNECTIONS + 5
        assert service.connections == MAX_CONNECTIONS


async def test_a_broken_connection_is_tried_anew_once() -> None:
    def break_once(request: Request, connection: socket.socket) -> None:
        if len(service.requests) == 2:
            connection.sendall(b"action=REJ")
            connection.shutdown(socket.SHUT_RDWR)
        else:
            connection.sendall(b"action=OK\n\n")

    with policyd_service(break_once) as service, client_of(service) as client:
        assert await client.ask(REQUEST, 30) == "OK"
        assert await client.ask(REQUEST, 30) == "OK"
        assert len(service.requests) == 3
        service.answer = lambda _request, connection: connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(NoAnswerError, match="ended without an answer"):
            await client.ask(REQUEST, 30)
        assert len(service.requests) == 5
        assert client.status()["deciders"] == 0


async def test_a_service_that_was_restarted_is_asked_on_a_new_connection() -> None:
    with policyd_service("OK") as service, client_of(service) as client:
        assert await client.ask(REQUEST, 30) == "OK"
        service.stop()
        with pytest.raises(NoAnswerError, match=f"^cannot connect to {service.address}: Connection refused$"):
            await client.ask(REQUEST, 30)
        service.start()
        assert await client.ask(REQUEST, 30) == "OK"


@pytest.mark.parametrize(
    "answer",
    [b"action=OK\n\naction=REJECT\n\n", b"x" * 5000, b"nonsense\n\n", b"\n"],
    ids=["two", "long", "no", "empty"],
)
async def test_an_answer_that_cannot_be_applied_costs_the_connection_and_no_second_attempt(answer: bytes) -> None:
    with policyd_service(raw(answer)) as service, client_of(service) as client:
        with pytest.raises(NoAnswerError, match="cannot be applied"):
            await client.ask(REQUEST, 30)
        assert len(service.requests) == 1
        assert (client.status()["invalid"], client.status()["deciders"]) == (1, 0)


async def test_an_answer_that_nobody_asked_for_is_never_read() -> None:
    sent = Event()

    def twice(_request: Request, connection: socket.socket) -> None:
        connection.sendall(b"action=OK\n\n")
        received.wait(30)
        connection.sendall(b"action=REJECT stale\n\n")
        sent.set()

    received = Event()
    with policyd_service(twice) as service, client_of(service) as client:
        assert await client.ask(REQUEST, 30) == "OK"
        received.set()
        await trio.to_thread.run_sync(sent.wait, 30)
        service.answer = action("DUNNO")
        assert await client.ask(REQUEST, 30) == "DUNNO"
        assert service.connections == 2


async def test_time_outs_open_the_breaker_and_a_late_answer_meets_no_later_question() -> None:
    release = Event()

    def hang(_request: Request, connection: socket.socket) -> None:
        release.wait(30)
        connection.sendall(b"action=REJECT late\n\n")

    with policyd_service(hang) as service, client_of(service) as client:
        for _ in range(2):
            with pytest.raises(NoAnswerError, match=r"timed out after 0\.05 s"):
                await client.ask(REQUEST, 0.05)
        with pytest.raises(NoAnswerError, match="circuit breaker is open"):
            await client.ask(REQUEST, 30)
        status = client.status()
        assert (status["timeouts"], status["breaker"], status["deciders"], status["asked"]) == (2, "open", 0, 2)
        release.set()
