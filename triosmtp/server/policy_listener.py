"""The connections of policy clients: how many are served at once, and how each is served."""

import logging
import socket
from collections import Counter
from functools import partial
from typing import Final

import trio

from triosmtp.config import Listen, UnixAddress
from triosmtp.errors import HandshakeError
from triosmtp.event import PolicyClientRefused, ServerCertificatePresented, SessionInfo
from triosmtp.limits.peer_count import peer_key
from triosmtp.policy_service.hub import ClientAccess
from triosmtp.server.policy_endpoint import PolicyEndpoint
from triosmtp.server.service import Service
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import TLSStream
from triosmtp.tls.handshake import handshake

__all__ = ["MAX_POLICY_CLIENTS", "MAX_POLICY_CLIENTS_PER_PEER", "PolicyListener", "serve_policy_client"]

_log = logging.getLogger("triosmtp.server")

MAX_POLICY_CLIENTS: Final = 64
"""The number of policy clients at once; further ones are refused."""
MAX_POLICY_CLIENTS_PER_PEER: Final = 32
"""The number of policy clients of one address; clients on loopback and Unix sockets do not count.

A client has not shown a token when it is counted, so one address must not be able to use all places.
"""


class PolicyListener:
    """Serves the policy clients of one server in ``nursery``."""

    def __init__(self, service: Service, nursery: trio.Nursery) -> None:
        self._service = service
        self._nursery = nursery
        self._clients: Counter[object] = Counter()

    @property
    def clients(self) -> int:
        """The number of clients now."""
        return self._clients.total()

    def accept(self, listen: Listen, sock: socket.socket, peer: Peer) -> None:
        """Serve a client that connected to ``listen``, or refuse it if there are too many."""
        service = self._service
        is_local = peer.address is None or peer.address.is_loopback
        key = None if is_local or peer.address is None else peer_key(peer.address)
        reason = ""
        if self._clients.total() >= MAX_POLICY_CLIENTS:
            reason = f"{MAX_POLICY_CLIENTS} clients are connected already"
        elif not is_local and self._clients[key] >= MAX_POLICY_CLIENTS_PER_PEER:
            reason = f"{MAX_POLICY_CLIENTS_PER_PEER} clients of this address are connected already"
        if reason:
            service.emit(PolicyClientRefused(peer=peer.text, listener=listen.name, reason=reason))
            sock.close()
            return
        endpoint = service.generation.policy_endpoints[listen.key]
        self._clients[key] += 1
        self._nursery.start_soon(self._serve, endpoint, sock, peer, key)

    async def _serve(self, endpoint: PolicyEndpoint, sock: socket.socket, peer: Peer, key: object) -> None:
        try:
            await serve_policy_client(self._service, endpoint, sock, peer)
        finally:
            self._clients[key] -= 1
            if not self._clients[key]:
                del self._clients[key]


async def serve_policy_client(service: Service, endpoint: PolicyEndpoint, sock: socket.socket, peer: Peer) -> None:
    """Serve one policy client until it disconnects.  Raises only ``trio.Cancelled``."""
    transport = SocketTransport(sock)
    stream: trio.abc.Stream = transport
    certificate: bool | None = None
    try:
        if isinstance(endpoint.listen.address, UnixAddress):
            refused = check_peer_credentials(sock, endpoint.listen.address.mode)
            if refused is not None:
                service.emit(PolicyClientRefused(peer=peer.text, listener=endpoint.listen.name, reason=refused))
                return
        if endpoint.tls is not None:
            context = service.context(service.generation, endpoint.tls)
            key = transport if peer.address is None else peer_key(peer.address)
            acquire_thread = partial(service.limits.flights.place, key, transport.is_gone)
            limit = endpoint.settings.tls_handshake_timeout
            stream, info = await handshake(context, transport, seconds=limit, acquire_thread=acquire_thread)
            if info.server_purpose:
                client = SessionInfo(id="", peer=peer.text, listener=endpoint.listen.name)
                service.emit(ServerCertificatePresented(session=client, tls=info))
            certificate = None if info.client_certificate is None else info.verified
        access = ClientAccess(
            listener=endpoint.listen.name,
            peer=peer.text,
            local=isinstance(endpoint.listen.address, UnixAddress),
            encrypted=endpoint.tls is not None,
            certificate=certificate,
            body_limit=endpoint.settings.body_limit,
            token=endpoint.token,
            admin_token=endpoint.admin_token,
        )
        await service.hub.serve_client(stream, access)
    except HandshakeError as error:
        service.emit(PolicyClientRefused(peer=peer.text, listener=endpoint.listen.name, reason=f"TLS: {error}"))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        _log.debug("policy client %s has disconnected", peer.text)
    except Exception:  # noqa: BLE001 - an error of one client must not end the server
        _log.exception("policy client %s failed", peer.text)
    finally:
        if isinstance(stream, TLSStream):
            stream.release()
        transport.close()
