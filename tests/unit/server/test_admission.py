"""Admission: a ticket counts its connection until it is closed, or the limit that refuses it is returned."""

from ipaddress import ip_address

import pytest
import trio
import trio.testing

from triosmtp import parse_config
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.service import Service
from triosmtp.server.startup import open_service

A, B = ip_address("198.51.100.1"), ip_address("198.51.100.2")


async def service_with(options: str) -> Service:
    return await open_service(
        parse_config(f'Deliver_To = "discard:" {options} ESMTP_Listener {{ Listen "127.0.0.1:25" {{ }} }}')
    )


def admit(service: Service, peer: object) -> AdmissionTicket | LimitReached:
    listen = service.config.listens[0]
    settings = service.config.resolve(listen, peer)  # type: ignore[arg-type]
    return service.limits.admission.admit(service.generation, listen, settings, peer)  # type: ignore[arg-type]


def counts(service: Service) -> tuple[int, int, int, int]:
    """Return everything that a ticket counts."""
    by_listener = sum(service.limits.admission.sessions_by_listener.values())
    return (
        service.statistics.sessions,
        by_listener,
        service.generation.sessions,
        sum(service.limits.peers._connections.values()),
    )


@pytest.mark.parametrize("peer", [A, None], ids=["TCP", "Unix socket"])
async def test_a_ticket_counts_once_and_out_once(peer: object) -> None:
    service = await service_with("")
    ticket = admit(service, peer)
    assert isinstance(ticket, AdmissionTicket)
    assert counts(service) == (1, 1, 1, int(peer is not None))
    ticket.close()
    ticket.close()
    assert counts(service) == (0, 0, 0, 0)
    assert service.statistics.sessions_total == 1


@pytest.mark.parametrize(
    ("options", "limit", "other"),
    [
        ("Connections_Per_Peer = 2", LimitReached.CONNECTIONS_PER_PEER, True),
        ('Connection_Rate_Per_Peer = "2/60"', LimitReached.CONNECTION_RATE_PER_PEER, True),
        ("Listener_Sessions = 2", LimitReached.LISTENER_SESSIONS, False),
        ("Service_Sessions = 2", LimitReached.SERVICE_SESSIONS, False),
    ],
)
async def test_a_refused_connection_is_not_counted(options: str, limit: LimitReached, other: bool) -> None:
    service = await service_with(options)
    tickets = [admit(service, A) for _ in range(2)]
    before = counts(service)
    assert admit(service, A) is limit
    assert counts(service) == before
    assert isinstance(admit(service, B), AdmissionTicket) is other
    for ticket in tickets:
        assert isinstance(ticket, AdmissionTicket)
        ticket.close()
    again = admit(service, A)
    assert isinstance(again, AdmissionTicket) is (limit is not LimitReached.CONNECTION_RATE_PER_PEER)


async def test_fifty_connections_of_one_address_by_default_and_more_of_a_relay_host() -> None:
    service = await service_with(f'Relay_Hosts = ( "{B}" )')
    for _ in range(50):
        assert isinstance(admit(service, A), AdmissionTicket)
    assert admit(service, A) is LimitReached.CONNECTIONS_PER_PEER
    assert all(isinstance(admit(service, B), AdmissionTicket) for _ in range(60))


async def test_the_deliveries_of_a_generation_are_closed_with_its_last_ticket() -> None:
    service = await service_with("")
    ticket, generation = admit(service, A), service.generation
    assert isinstance(ticket, AdmissionTicket)
    closed: list[bool] = []

    async def close_when_unused() -> None:
        await generation.close_when_unused()
        closed.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_when_unused)
        await trio.testing.wait_all_tasks_blocked()
        assert not closed
        ticket.close()
    assert closed
