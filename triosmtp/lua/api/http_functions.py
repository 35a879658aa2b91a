"""``http.client``: requests of scripts to other servers.  The session waits; redirects are not followed.

The extra ``http`` is imported if a script makes a client.
"""

import re
from http import HTTPStatus
from typing import Any, Final

import trio

from triosmtp.errors import needs_extra
from triosmtp.lua.api.access import Callout, text
from triosmtp.lua.host import HostObject, HostTable, ScriptError

__all__ = ["TABLE"]

TABLE = HostTable()

_MAX_ANSWER: Final = 1024 * 1024
_MAX_DATA: Final = 1024 * 1024
_MAX_HEADERS: Final = 64
_MAX_LINE: Final = 8 * 1024
_SECONDS: Final = 30.0
_MAX_SECONDS: Final = 300.0
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_URL: Final = re.compile(r"https?://[!-~]{1,8000}", re.IGNORECASE)
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([^\r\n\0]*)")
_OWN: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})  # HTTP itself sets these


class Request(HostObject):
    """``http.client.new()``: the settings of requests, and the answer to the latest one."""

    lua_class = "http_client"

    def __init__(self) -> None:
        self.timeout = _SECONDS
        self.headers: list[tuple[str, str | bytes]] = []
        self.status = 0
        self.body = b""
        self.answer_headers = ""


def _new(callout: Callout) -> Request:
    try:
        callout.engine.resources.http()
    except ImportError:
        raise ScriptError(f"http.client {needs_extra('httpx', 'http')}") from None
    return Request()


def _parse_headers(_callout: Callout, headers: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text(headers[:_MAX_ANSWER]).splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


for _module in ("http.client", "msys.http.client"):
    TABLE.function(f"{_module}.new", "", state="should")(_new)
    TABLE.function(f"{_module}.parse_headers", "s", state="should")(_parse_headers)


@TABLE.function("http_client:set_timeout", "n?", state="should")
def _set_timeout(_callout: Callout, request: Request, seconds: float | None) -> None:
    wanted = _SECONDS if seconds is None else seconds
    if not 0 < wanted <= _MAX_SECONDS:
        raise ScriptError(f"a timeout is more than 0 and at most {_MAX_SECONDS:.0f} seconds")
    request.timeout = wanted


@TABLE.function("http_client:set_header", "s?", state="should")
def _set_header(_callout: Callout, request: Request, line: bytes | None) -> None:
    if line is None:
        request.headers.clear()
        return
    found = None if len(line) > _MAX_LINE else _HEADER.fullmatch(line.rstrip(b"\r\n"))
    if found is None or found[1].lower() in _OWN:
        raise ScriptError(f"{text(line[:100])!r} is not a header line that can be set")
    if len(request.headers) >= _MAX_HEADERS:
        raise ScriptError(f"more than {_MAX_HEADERS} header lines")
    request.headers.append((text(found[1]), found[2]))


@TABLE.function("http_client:do_request", "sss?", state="should", waits=True)
async def _do_request(callout: Callout, request: Request, method: bytes, url: bytes, data: bytes | None) -> Any:
    verb, address = text(method).upper(), text(url)
    if verb not in _METHODS:
        raise ScriptError(f"{verb[:20]!r} is none of {', '.join(sorted(_METHODS))}")
    if not _URL.fullmatch(address):
        raise ScriptError("a URL begins with http:// or https://, and has no blanks")
    if data is not None and len(data) > _MAX_DATA:
        raise ScriptError(f"more than {_MAX_DATA} octets of data")
    request.status, request.body, request.answer_headers = 0, b"", ""
    from triosmtp.http_client.http_client import HTTPFailureError  # noqa: PLC0415 - http.client.new() has imported it

    try:
        with trio.fail_after(request.timeout):
            client = callout.engine.resources.http()
            answer = await client.request(verb, address, request.headers, data, max_answer=_MAX_ANSWER)
    except HTTPFailureError as error:
        return None, str(error)
    except trio.TooSlowError:
        return None, "timeout"
    request.status, request.body = answer.status, answer.body
    request.answer_headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    return True


@TABLE.function("http_client:get_status", "", state="should")
def _get_status(_callout: Callout, request: Request) -> tuple[int, str]:
    try:
        return request.status, HTTPStatus(request.status).phrase
    except ValueError:
        return request.status, ""


@TABLE.function("http_client:get_body", "", state="should")
def _get_body(_callout: Callout, request: Request) -> bytes:
    return request.body


@TABLE.function("http_client:get_headers", "", state="should")
def _get_headers(_callout: Callout, request: Request) -> str:
    return request.answer_headers
