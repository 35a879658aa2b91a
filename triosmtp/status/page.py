"""The status page and its login."""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from triosmtp.status.login import COOKIE, LOGIN_SECONDS, Logins
from triosmtp.status.request_access import AccessRules, has_bearer_token

__all__ = ["OPEN_PATHS", "page_routes"]

OPEN_PATHS: Final = ("/", "/login", "/page.css")
"""Paths that need no token; ``/`` then redirects to the login."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def page_routes(access: AccessRules, logins: Logins) -> list[BaseRoute]:
    """Return the routes of page and login."""

    async def index(request: Request) -> Response:
        scope = request.scope
        if access.token is None or logins.is_logged_in(access, scope) or has_bearer_token(access, scope):
            return _file("page.html", with_login=access.token is not None)
        return RedirectResponse("/login", 303)

    async def log_in(request: Request) -> Response:
        if request.method != "POST":
            return _file("login.html")
        token = parse_qs((await request.body()).decode("ascii", "replace")).get("token", [""])[0]
        name = logins.log_in(access, token)
        if name is None:
            if await logins.delay(request.scope):
                return _file("login.html", 403, problem=b"Wrong token.")
            return _file("login.html", 429, problem=b"Too many wrong tokens at the moment. Try again in a few seconds.")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, name, max_age=LOGIN_SECONDS, httponly=True, samesite="strict", path="/")
        return answer

    async def log_out(request: Request) -> Response:
        logins.log_out(request.scope)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
        return answer

    return [
        Route("/", index),
        Route("/login", log_in, methods=["GET", "POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/page.css", _static("page.css")),
        Route("/page.js", _static("page.js")),
    ]


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def static(_request: Request) -> Response:
        return _file(name)

    return static


def _file(name: str, status: int = 200, *, with_login: bool = False, problem: bytes = b"") -> Response:
    media = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    content = _content(name)
    if with_login:
        content = content.replace(b'<form id="logout" hidden', b'<form id="logout"')
    if problem:
        content = content.replace(b" hidden></p>", b">" + problem + b"</p>")
    return Response(content, status, {"content-type": media, "content-security-policy": _POLICY})


@cache
def _content(name: str) -> bytes:
    return (files("triosmtp.status") / "static" / name).read_bytes()
