"""Deliveries to the stream of a test's server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from attrs import evolve
from nats_servers import NATSProcess

from triosmtp.jetstream.nats_client import NATSLogin
from triosmtp.jetstream.stream_address import StreamAddress
from triosmtp.jetstream.stream_delivery import StreamDelivery

__all__ = ["open_delivery", "stream_address"]


def stream_address(*servers: NATSProcess, **changes: Any) -> StreamAddress:
    """Return the address of the stream MAIL on ``servers``; one replica is enough."""
    address = StreamAddress(
        servers=tuple(("127.0.0.1", each.port) for each in servers),
        stream="MAIL",
        subject="mail.in",
        replicas=1,
        bucket="MAIL",
    )
    return evolve(address, **changes)


@asynccontextmanager
async def open_delivery(
    *servers: NATSProcess, login: NATSLogin | None = None, **changes: Any
) -> AsyncIterator[StreamDelivery]:
    """Yield a delivery to the stream, and end its thread afterwards."""
    delivery = StreamDelivery(stream_address(*servers, **changes), login or NATSLogin(), "mx1")
    try:
        yield delivery
    finally:
        await delivery.aclose()
