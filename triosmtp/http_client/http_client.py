"""One HTTP request to a server: streamed, and bounded in every respect.

No proxy or netrc of the environment is used, no redirect is followed, and no answer is decompressed.  The time is
bounded by the caller, with one deadline over all: the connection, the request and the answer.
"""

import hashlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import httpx
import trio
from attrs import define, field, frozen

from triosmtp.http_client.tls_files import TLSFiles
from triosmtp.x509.certificate import certificate_facts

__all__ = ["HTTPAnswer", "HTTPClient", "HTTPFailureError"]

_MAX_CAUSES: Final = 10

FailureKind: TypeAlias = Literal["connect", "tls", "broken", "invalid"]


class HTTPFailureError(Exception):
    """There is no answer.  ``kind`` says what failed: the connection, TLS, a connection that broke, or the answer."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


@frozen(slots=True)
class HTTPAnswer:
    """An answer that was read completely."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(factory=lambda: MappingProxyType({}), repr=False)
    """By names in lower case."""


class _Content(httpx.AsyncByteStream):
    """The body of a request.  Unlike that of httpx, it makes no generator that nobody would close after an error."""

    def __init__(self, content: AsyncGenerator[bytes, None]) -> None:
        self._content = content
        self.is_sent = False
        """Whether all of it was sent.  httpcore reads an answer also after the server ended the request early."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._content)
        except StopAsyncIteration:  # the part before was sent without an error
            self.is_sent = True
            raise


@define(slots=True, eq=False)
class _Pool:
    """The connections that have one TLS context."""

    context: ssl.SSLContext | None
    client: httpx.AsyncClient
    uses: int = 0


class HTTPClient:
    """Requests to one server, over at most ``connections`` connections.  More requests wait, within their deadline.

    A connection has ``connect_seconds`` to be made, and is closed if it was not used for ``idle_seconds``.
    """

    def __init__(
        self,
        files: TLSFiles | None,
        *,
        connections: int | None,
        user_agent: str,
        connect_seconds: float | None = None,
        idle_seconds: float = 30.0,
    ) -> None:
        self._files = files
        self._timeout = httpx.Timeout(None, connect=connect_seconds)
        self._idle_seconds = idle_seconds
        self._connections = connections
        self._user_agent = user_agent
        self._pool: _Pool | None = None
        # It imports the rest of httpx: while a message waits would be too late, and the user who serves may not be
        # permitted to read the files of packages.
        httpx.AsyncHTTPTransport(verify=False)

    async def post(
        self,
        url: str,
        headers: Iterable[tuple[str, str | bytes]],
        size: int,
        chunks: Callable[[], AsyncGenerator[bytes, None]],
        *,
        max_answer: int,
        truncate: bool = False,
        tls_name: str | None = None,
    ) -> HTTPAnswer:
        """Send a body of ``size`` octets, and return the answer.

        ``chunks`` begins to read the body; what it raises goes to the caller.  ``tls_name`` is the name that the
        certificate must have, if it is not that of the URL.  ``truncate`` is for a caller to whom the status matters:
        of a body that is longer than ``max_answer`` octets, only these are read, and of one that is compressed, none.

        :raises HTTPFailureError: if there is no answer, or one with a body that is longer or compressed, or a 2xx
            although the server did not take the whole body.
        """
        request_headers = httpx.Headers([(name.encode("ascii"), _encoded(value)) for name, value in headers])
        request_headers["Content-Length"] = str(size)
        async with self._pooled() as client:
            try:
                async with aclosing(chunks()) as generator:
                    request = client.build_request(
                        "POST", url, headers=request_headers, extensions=self._extensions(tls_name)
                    )
                    request.stream = content = _Content(generator)
                    response = await client.send(request, stream=True)
                answer = await _answer(response, max_answer, truncate=truncate)
            except httpx.HTTPError as error:
                raise _failure(error) from None
        if 200 <= answer.status < 300 and not content.is_sent:
            raise HTTPFailureError("broken", f"answered {answer.status} before the whole request was sent")
        return answer

    async def head(self, url: str, *, tls_name: str | None = None) -> HTTPAnswer:
        """Ask with HEAD whether there is anything at ``url``.

        :raises HTTPFailureError: if there is no answer.
        """
        async with self._pooled() as client:
            try:
                request = client.build_request("HEAD", url, extensions=self._extensions(tls_name))
                return await _answer(await client.send(request, stream=True), 0, truncate=True)
            except httpx.HTTPError as error:
                raise _failure(error) from None

    async def request(
        self, method: str, url: str, headers: Iterable[tuple[str, str | bytes]], body: bytes | None, *, max_answer: int
    ) -> HTTPAnswer:
        """Send a request with a body that is in memory, and return the answer.

        :raises HTTPFailureError: if there is no answer, or one with a body of more than ``max_answer`` octets.
        """
        request_headers = httpx.Headers([(name.encode("ascii"), _encoded(value)) for name, value in headers])
        async with self._pooled() as client:
            try:
                request = client.build_request(
                    method, url, headers=request_headers, content=body, extensions=self._extensions(None)
                )
                return await _answer(await client.send(request, stream=True), max_answer)
            except (httpx.InvalidURL, ValueError) as error:  # of the URL's host, too
                raise HTTPFailureError("invalid", str(error)) from None
            except httpx.HTTPError as error:
                raise _failure(error) from None

    @asynccontextmanager
    async def _pooled(self) -> AsyncIterator[httpx.AsyncClient]:
        """Return the connections with the TLS context in force; close former ones when they are not used any more."""
        try:
            context = None if self._files is None else await self._files.context()
        except ValueError as error:
            raise HTTPFailureError("tls", str(error)) from None
        pool, former = self._pool, None
        if pool is None or pool.context is not context:
            former, pool = pool, self._new_pool(context)
            self._pool = pool
        pool.uses += 1
        try:
            if former is not None and not former.uses:
                await former.client.aclose()
            yield pool.client
        finally:
            pool.uses -= 1
            if pool is not self._pool and not pool.uses:
                await pool.client.aclose()

    def _new_pool(self, context: ssl.SSLContext | None) -> _Pool:
        client = httpx.AsyncClient(
            verify=False if context is None else context,  # without a context there is no TLS
            trust_env=False,
            follow_redirects=False,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=self._connections, keepalive_expiry=self._idle_seconds),
            headers={"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        return _Pool(context, client)

    def _extensions(self, tls_name: str | None) -> dict[str, Any]:
        """Return the extensions of a request: the name of the server, and the check of its fingerprint."""
        extensions: dict[str, Any] = {} if tls_name is None else {"sni_hostname": tls_name}
        if self._files is not None and self._files.fingerprints:
            extensions["trace"] = partial(_check_fingerprint, self._files.fingerprints)
        return extensions

    async def aclose(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.client.aclose()


async def _check_fingerprint(fingerprints: tuple[tuple[str, str], ...], step: str, facts: dict[str, Any]) -> None:
    """Check the certificate of a server after the handshake, before anything is sent.

    :raises HTTPFailureError: if it has none of the fingerprints.
    """
    if step != "connection.start_tls.complete":
        return
    stream = facts["return_value"]
    der = stream.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
    found = {("sha256", hashlib.sha256(der).hexdigest()), ("spki", certificate_facts(der).spki_sha256 or "")}
    if found.isdisjoint(fingerprints):
        await stream.aclose()
        raise HTTPFailureError("tls", "the certificate of the server has none of TLS_Fingerprints")


async def _answer(response: httpx.Response, limit: int, *, truncate: bool = False) -> HTTPAnswer:
    async with aclosing(response):
        compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
        if compressed and not truncate:
            raise HTTPFailureError("invalid", "the answer is compressed, which was not asked for")
        body = b"" if compressed else await _read(response, limit, truncate=truncate)
        return HTTPAnswer(response.status_code, body, dict(response.headers))


async def _read(response: httpx.Response, limit: int, *, truncate: bool) -> bytes:
    body = bytearray()
    # The loop is not left early: nobody would close the generators of httpx below it.
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if len(body) + len(chunk) > limit:
                scope.cancel()
            body += chunk[: limit - len(body)]
    if scope.cancel_called and not truncate:
        raise HTTPFailureError("invalid", f"the answer has more than {limit} octets")
    return bytes(body)


def _encoded(value: str | bytes) -> bytes:
    """Return the value of a header field without octets that could end it."""
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return bytes(each if 0x20 <= each != 0x7F else 0x3F for each in octets).strip()


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes.  One for each IP address of a host is in a group."""
    causes = [error]
    while len(causes) < _MAX_CAUSES:
        cause = causes[-1].__cause__ or causes[-1].__context__
        if isinstance(cause, BaseExceptionGroup):
            return [*causes, *cause.exceptions[:_MAX_CAUSES]]
        if cause is None:
            break
        causes.append(cause)
    return causes


def _failure(error: httpx.HTTPError) -> HTTPFailureError:
    causes = _causes(error)
    of_tls = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
    if of_tls is not None:
        return HTTPFailureError("tls", getattr(of_tls, "verify_message", "") or of_tls.reason or str(of_tls))
    text = next(filter(None, map(str, causes)), type(error).__name__)
    if isinstance(error, httpx.ConnectTimeout):
        return HTTPFailureError("connect", "cannot connect: timed out")
    if isinstance(error, httpx.ConnectError):
        reasons = dict.fromkeys(each.strerror for each in causes if isinstance(each, OSError) and each.strerror)
        return HTTPFailureError("connect", ": ".join(("cannot connect", text, *reasons)))
    if isinstance(error, httpx.RemoteProtocolError):
        return HTTPFailureError("broken", f"not an answer of HTTP: {text}")
    return HTTPFailureError("broken", f"the connection broke: {text}")
