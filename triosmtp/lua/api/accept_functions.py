"""``ac``: the connection as scripts see it."""

from ipaddress import ip_network
from typing import Final

from triosmtp.lua.api.access import Callout, session_of, text
from triosmtp.lua.api.open_sessions import OpenSessions
from triosmtp.lua.host import HostObject, HostTable, ScriptError

__all__ = ["TABLE", "divided_endpoint", "endpoint_text", "session_count"]

TABLE = HostTable()

TABLE.constant("msys.core.P_SMTP", 1)
TABLE.constant("msys.core.P_ESMTP", 2)
TABLE.constant("msys.core.P_LMTP", 3)

_AF_UNSPEC, _AF_INET, _AF_INET6 = 0, 2, 10
TABLE.constant("msys.core.AF_INET", _AF_INET)
TABLE.constant("msys.core.AF_INET6", _AF_INET6)

_CHANGED_AT: Final = frozenset({"connect", "ehlo"})


def divided_endpoint(endpoint: str) -> tuple[str, str]:
    """Return address and port of ``192.0.2.7:25`` or ``[2001:db8::7]:25``; the port is ``""`` if there is none."""
    if endpoint.startswith("["):
        address, _, port = endpoint[1:].partition("]")
        return address, port.removeprefix(":")
    address, _, port = endpoint.rpartition(":")
    return (address, port) if address else (port, "")


def endpoint_text(endpoint: str) -> str:
    """Return an endpoint as Momentum writes it: ``ip:port``, or ``ip.port`` for IPv6."""
    address, port = divided_endpoint(endpoint)
    if not port:
        return address
    return f"{address}.{port}" if ":" in address else f"{address}:{port}"


@TABLE.getter("ac.remote_addr")
def _remote_addr(callout: Callout, _ac: HostObject) -> str:
    return endpoint_text(session_of(callout).peer)


@TABLE.getter("ac.local_addr")
def _local_addr(callout: Callout, _ac: HostObject) -> str:
    return endpoint_text(session_of(callout).local)


@TABLE.getter("ac.conn_id")
def _conn_id(callout: Callout, _ac: HostObject) -> str:
    return session_of(callout).id


@TABLE.getter("ac.protocol")
def _protocol(callout: Callout, _ac: HostObject) -> int:
    return 1 if session_of(callout).variables.get("ehlo_string", "").upper().startswith("HELO") else 2


def _changed(callout: Callout, line: bytes, *, added: bool) -> None:
    session = session_of(callout)
    if callout.phase not in _CHANGED_AT:
        raise ScriptError(f"capabilities are changed at connect and ehlo, not at {callout.phase}")
    try:
        (session.add_capability if added else session.remove_capability)(text(line))
    except ValueError as error:
        raise ScriptError(str(error)) from None


@TABLE.function("ac:esmtp_capability_add", "s")
def _capability_add(callout: Callout, _ac: HostObject, line: bytes) -> None:
    _changed(callout, line, added=True)


@TABLE.function("ac:esmtp_capability_remove", "s")
def _capability_remove(callout: Callout, _ac: HostObject, line: bytes) -> None:
    _changed(callout, line, added=False)


def session_count(callout: Callout, cidr: bytes | None, service: bytes | None) -> int:
    """Return the number of open sessions from a network: ``/24`` of the peer, an address, or a network.

    Without a network, all sessions count.

    :raises ScriptError: if it is none of these, or if ``service`` is not SMTP.
    """
    if service is not None and service.upper() not in {b"SMTP", b"ESMTP"}:
        raise ScriptError(f"there is no service {text(service)!r}")
    resources = callout.engine.resources
    sessions: OpenSessions = resources.sessions
    if not sessions.is_counting:
        resources.watch(sessions)
    if cidr is None:
        return len(sessions)
    written = text(cidr)
    if written.startswith("/"):
        written = f"{session_of(callout).peer_address or '0.0.0.0'}{written}"  # noqa: S104 - no address to bind
    try:
        network = ip_network(written, strict=False)
    except ValueError as error:
        raise ScriptError(str(error)) from None
    return sessions.count(network)


@TABLE.function("msys.core.ec_sockaddr_family", "s", state="should")
def _sockaddr_family(_callout: Callout, endpoint: bytes) -> int:
    return _AF_INET6 if b":" in endpoint.partition(b".")[0] else _AF_INET if b"." in endpoint else _AF_UNSPEC


@TABLE.function("ac:pbp_inbound_session_count_service", "ss", state="should")
def _session_count_of_service(callout: Callout, _ac: HostObject, service: bytes, cidr: bytes) -> int:
    return session_count(callout, cidr, service)


@TABLE.function("ac:inbound_session_count", "s?s?", state="should")
def _session_count(callout: Callout, _ac: HostObject, cidr: bytes | None, service: bytes | None) -> int:
    return session_count(callout, cidr, service)
