"""The beginning of a connection through a proxy: the PROXY header and the client that it announces.

A proxy that sends no valid PROXY header receives no reply: it would pass the reply to its client.
"""

import logging

import trio
from attrs import evolve

from triosmtp.config import Listen, Settings
from triosmtp.event import ConnectionRefused
from triosmtp.server.service import Service
from triosmtp.smtp.proxy_header import MIN_PROXY_HEADER_SIZE, ProxyHeader, ProxyHeaderError, parse_proxy_header
from triosmtp.sockets.peer import Peer, peer_from_sockaddr

__all__ = ["read_proxy_header"]

_log = logging.getLogger("triosmtp.server")


async def read_proxy_header(
    service: Service, listen: Listen, settings: Settings, transport: trio.abc.Stream, proxy: Peer, local: str
) -> Peer | None:
    """Read the PROXY header of ``proxy``, which has the options ``settings``, and return the client that it announces.

    Return None if the connection must be closed.  The reason is emitted as an event then.
    """
    data = bytearray()
    try:
        with trio.fail_after(settings.proxy_protocol_timeout):
            preamble = await _read(transport, data)
    except ProxyHeaderError as error:
        # A health check of a proxy connects and closes: that is no event.
        if data:
            service.emit(ConnectionRefused(peer=proxy.text, listener=listen.name, reason="Proxy_Protocol"))
            _log.warning("proxy %s sent no valid PROXY header: %s", proxy.text, error)
        return None
    except trio.TooSlowError:
        service.emit(ConnectionRefused(peer=proxy.text, listener=listen.name, reason="Proxy_Protocol_Timeout"))
        return None
    except trio.BrokenResourceError:
        return None
    variables = {"proxy_protocol": str(preamble.version), **preamble.variables}
    if not preamble.proxied:
        return evolve(proxy, announced=variables)
    variables.update(real_peer=proxy.text, real_local=local)
    if preamble.source is None or preamble.destination is None:
        return evolve(peer_from_sockaddr("unix"), announced=variables)
    return evolve(_peer(preamble.source), local=_peer(preamble.destination).text, announced=variables)


def _peer(end: tuple[object, int]) -> Peer:
    return peer_from_sockaddr((str(end[0]), end[1]))


async def _read(transport: trio.abc.Stream, data: bytearray) -> ProxyHeader:
    wanted = MIN_PROXY_HEADER_SIZE
    while True:
        received = await transport.receive_some(wanted)
        if not received:
            raise ProxyHeaderError("the connection ended within it")
        data += received
        found = parse_proxy_header(bytes(data))
        if isinstance(found, ProxyHeader):
            return found
        wanted = found
