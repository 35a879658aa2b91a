"""What is there to see on the Status_Listener: one list of routes."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from triosmtp.status.event_stream import Feed
from triosmtp.status.exposition import expose
from triosmtp.status.login import Logins
from triosmtp.status.metric import Metrics
from triosmtp.status.page import OPEN_PATHS, page_routes
from triosmtp.status.request_access import Access, Guard, bearer
from triosmtp.status.status_source import Source

__all__ = ["Site", "application", "routes"]


_EXPOSING: Final = trio.CapacityLimiter(1)
"""Threads that write metrics: they hold the interpreter's lock, so many of them would slow down the event loop."""


@frozen(slots=True)
class Site:
    """What the routes know."""

    source: Source
    access: Access
    metrics: Metrics
    feed: Feed
    logins: Logins


def routes(site: Site) -> list[BaseRoute]:
    """Give everything that can be asked for."""
    return [
        Route("/metrics", _metrics(site)),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(site)),
        Route("/events", site.feed),
        *page_routes(site.access, site.logins),
    ]


def application(site: Site) -> Guard:
    """Give the application of one Listen, guarded."""
    inner = Starlette(routes=routes(site))
    return Guard(inner, site.access, credentials=(bearer, site.logins.shows), open_paths=OPEN_PATHS)


async def _healthz(_request: Request) -> Response:
    """That it answers is all there is to say: the event loop turns."""
    return PlainTextResponse("ok\n")


def _metrics(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        samples = await site.metrics.scrape(site.source)
        accept = request.headers.get("accept", "")
        content, content_type = await trio.to_thread.run_sync(expose, samples, accept, limiter=_EXPOSING)
        return Response(content, headers={"content-type": content_type})

    return metrics


def _readyz(site: Site) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_request: Request) -> Response:
        if site.source.ready():
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"{site.source.state()}\n", status_code=503)

    return readyz
