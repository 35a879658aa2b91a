"""The ASGI application of the Status_Listener: one list of routes."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from triosmtp.status.event_stream import EventStream
from triosmtp.status.exposition import write_exposition
from triosmtp.status.login import Logins
from triosmtp.status.metrics import Metrics
from triosmtp.status.page import OPEN_PATHS, page_routes
from triosmtp.status.request_access import AccessGuard, AccessRules, has_bearer_token
from triosmtp.status.status_source import StatusSource

__all__ = ["StatusApplication", "build_application", "build_routes"]


_EXPOSITION_THREADS: Final = trio.CapacityLimiter(1)
"""Threads that write metrics.  They hold the GIL, so several would slow down the event loop."""


@frozen(slots=True)
class StatusApplication:
    """The state that the routes share."""

    source: StatusSource
    access: AccessRules
    metrics: Metrics
    events: EventStream
    logins: Logins


def build_routes(site: StatusApplication) -> list[BaseRoute]:
    """Return all routes."""
    return [
        Route("/metrics", _metrics(site)),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(site)),
        Route("/events", site.events),
        *page_routes(site.access, site.logins),
    ]


def build_application(site: StatusApplication) -> AccessGuard:
    """Return the application of one Listen behind its access rules."""
    inner = Starlette(routes=build_routes(site))
    return AccessGuard(
        inner, site.access, token_checks=(has_bearer_token, site.logins.is_logged_in), open_paths=OPEN_PATHS
    )


async def _healthz(_request: Request) -> Response:
    """Respond: the event loop runs."""
    return PlainTextResponse("ok\n")


def _metrics(site: StatusApplication) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        samples = await site.metrics.scrape(site.source)
        accept = request.headers.get("accept", "")
        content, content_type = await trio.to_thread.run_sync(
            write_exposition, samples, accept, limiter=_EXPOSITION_THREADS
        )
        return Response(content, headers={"content-type": content_type})

    return metrics


def _readyz(site: StatusApplication) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_request: Request) -> Response:
        if site.source.ready():
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"{site.source.state()}\n", status_code=503)

    return readyz
