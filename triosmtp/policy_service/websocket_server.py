"""One policy client over a websocket: who may come in, one task that reads, one that writes, and one that pings.

This file and ``client.py`` are the only ones that know which library speaks websocket.
"""

import hmac
import logging
from typing import TYPE_CHECKING, Any, Final

import trio
import trio_websocket

from triosmtp.policy_service.connected_client import ClientAccess, ConnectedClient
from triosmtp.policy_service.json_rpc import PROTOCOL

if TYPE_CHECKING:
    from triosmtp.policy_service.hub import Hub

__all__ = ["serve_websocket"]

_log = logging.getLogger("triosmtp.policy")

_UPGRADE: Final = 10.0
"""Seconds for the HTTP request."""
_GOODBYE: Final = 5.0
_CODES: Final = {"closed": 1000, "going away": 1001, "a binary frame": 1003}
_READ: Final = 65536
_QUEUED: Final = 16
_MESSAGES_AT_ONCE: Final = 64
"""Requests of one client that are worked on; further ones wait, and so does its reader."""


class _Refused(Exception):  # noqa: N818 - how an upgrade ends, not an error
    """An upgrade is refused: the HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class _Shared(trio.abc.Stream):
    """The stream, for the library and our writer both: each frame leaves it whole."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self.upgraded = False
        """Whether the upgrade is done.  Before, the library does not tell that the client has gone: it waits on."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._sending:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        async with self._sending:
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            if self.upgraded:
                raise
            data = b""
        if not data and not self.upgraded:
            raise ConnectionResetError("the client has gone before its upgrade")
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def serve_websocket(hub: "Hub", stream: trio.abc.Stream, access: ClientAccess) -> None:
    """Serve one client on ``stream`` until it ends; closes the stream.  Raises nothing but cancellation."""
    shared = _Shared(stream)
    try:
        async with trio.open_nursery() as nursery:
            await _serve(hub, shared, access, nursery)
            nursery.cancel_scope.cancel()
    except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, OSError) as group:
        _log.debug("policy client %s: %r", access.peer, group.exceptions)
    except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
        _log.debug("policy client %s is gone: %r", access.peer, group.exceptions)
    except* UnicodeError:
        # The library decodes header fields as ASCII, before it knows what they are.
        hub.report_refused(access, "the upgrade is not ASCII")
    except* Exception as group:  # noqa: BLE001 - one client's failure must not become the server's
        _log.error("policy client %s failed", access.peer, exc_info=group)
    finally:
        await trio.aclose_forcefully(stream)


async def _serve(hub: "Hub", shared: _Shared, access: ClientAccess, nursery: trio.Nursery) -> None:
    with trio.move_on_after(_UPGRADE) as upgrade:
        request = await trio_websocket.wrap_server_stream(
            nursery,
            shared,
            message_queue_size=_QUEUED,
            max_message_size=hub.limits.message_bytes,
            receive_buffer_size=_READ,
        )
        try:
            admin = _admit(request, access)
        except _Refused as refused:
            hub.report_refused(access, f"{refused.status} {refused.reason}")
            challenge = [(b"WWW-Authenticate", b"Bearer")] if refused.status == 401 else []
            await request.reject(refused.status, extra_headers=challenge, body=f"{refused.reason}\n".encode())
            return
        connection = await request.accept(subprotocol=PROTOCOL)
        shared.upgraded = True
    if upgrade.cancelled_caught:
        hub.report_refused(access, "no upgrade came in time")
        return
    await _talk(hub, connection, shared, access, admin=admin)


def _admit(request: Any, access: ClientAccess) -> bool:
    """Give whether the client may use control requests.

    :raises _Refused: where it may not come in at all.
    """
    if access.certificate is False:
        raise _Refused(403, "the client certificate does not verify")
    # The Authorization field and nothing else: a page can choose URL, subprotocol and Basic, and it brings cookies.
    given = [value for name, value in request.headers if name == b"authorization"]
    if len(given) > 1:
        raise _Refused(400, "the Authorization field stands twice")
    scheme, _, rest = (given[0] if given else b"").partition(b" ")
    token = rest.strip() if scheme.lower() == b"bearer" else b""
    admin = _equal(token, access.admin_token)
    known = admin or _equal(token, access.token)
    if not known and any(name == b"origin" for name, _ in request.headers):
        # A page in somebody's browser comes with that browser's certificate and right to reach us.  No page can set
        # the Authorization field of a websocket, so a program that sends both is none.
        raise _Refused(403, "browsers are not served; a program that sends Origin needs Authorization: Bearer")
    if token and not known and not (access.token is None and access.local):
        raise _Refused(401, "the token is not known")
    if not (known or access.local or access.certificate):
        raise _Refused(401, "a token is needed")
    if PROTOCOL not in request.proposed_subprotocols:
        raise _Refused(400, f"the subprotocol is {PROTOCOL}")
    return admin


def _equal(given: bytes, expected: str | None) -> bool:
    return bool(given and expected) and hmac.compare_digest(given, (expected or "").encode())


async def _talk(hub: "Hub", connection: Any, shared: _Shared, access: ClientAccess, *, admin: bool) -> None:
    async with trio.open_nursery() as nursery:
        link = hub.add_client(access, admin=admin, drop=nursery.cancel_scope.cancel)
        try:
            nursery.start_soon(_write, link, shared)
            nursery.start_soon(_ping, hub, connection, link)
            await _read(hub, connection, link)
            nursery.cancel_scope.cancel()
        finally:
            hub.remove_client(link)
    # Half a frame may be on its way: then a goodbye would be read as its other half, and does no harm.
    with trio.move_on_after(_GOODBYE):
        await connection.aclose(code=_CODES.get(link.reason, 1008), reason=link.reason[:100])


async def _read(hub: "Hub", connection: Any, link: ConnectedClient) -> None:
    at_once = trio.Semaphore(_MESSAGES_AT_ONCE)

    async def work(text: str) -> None:
        try:
            await hub.receive_message(link, text)
        finally:
            at_once.release()

    try:
        async with trio.open_nursery() as nursery:
            while True:
                message = await connection.get_message()
                if not isinstance(message, str):
                    link.reason = "a binary frame"
                    break
                if '"method"' not in message:
                    await hub.receive_message(link, message)  # an answer: it waits for nothing
                    continue
                await at_once.acquire()
                nursery.start_soon(work, message)
            nursery.cancel_scope.cancel()
    except* trio_websocket.ConnectionClosed:
        pass


async def _write(link: ConnectedClient, shared: _Shared) -> None:
    while True:
        await shared.send_all(await link.outbox.take())


async def _ping(hub: "Hub", connection: Any, link: ConnectedClient) -> None:
    while True:
        await trio.sleep(hub.limits.ping_seconds)
        with trio.move_on_after(hub.limits.ping_seconds) as scope:
            await connection.ping()
        if scope.cancelled_caught:
            link.drop("too slow: no pong came")
