"""Listens for policy clients: what each requires of a client, and how a client is served."""

import logging
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
from attrs import frozen

from triosmtp.config import Config, Listen, Settings, UnixAddress, problem_at
from triosmtp.errors import ConfigError, HandshakeError, Problem, Severity
from triosmtp.event import PolicyClientRefused, ServerCertificatePresented, SessionInfo
from triosmtp.filesystem import open_regular
from triosmtp.limits.peer_count import peer_key
from triosmtp.policy_service.hub import ClientAccess
from triosmtp.server.profile import tls_settings
from triosmtp.server.service import Service
from triosmtp.sockets.listener import Peer
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import TLSSettings, TLSStream
from triosmtp.tls.handshake import handshake

__all__ = [
    "MAX_POLICY_CLIENTS",
    "MAX_POLICY_CLIENTS_PER_PEER",
    "PolicyEndpoint",
    "read_policy_endpoints",
    "read_token",
    "serve_policy_client",
    "token_warnings",
]

_log = logging.getLogger("triosmtp.server")

_SHORTEST: Final = 16
_LONGEST: Final = 4096
MAX_POLICY_CLIENTS: Final = 64
"""Policy clients at once; further ones are turned away."""
MAX_POLICY_CLIENTS_PER_PEER: Final = 32
"""Of these, those of one address, loopback and Unix sockets apart: nobody holds all places who has shown no token."""


@frozen(slots=True)
class PolicyEndpoint:
    """What is demanded at one Listen."""

    listen: Listen
    settings: Settings
    tls: TLSSettings | None
    token: str | None = attrs.field(repr=False)
    admin_token: str | None = attrs.field(repr=False)


def read_policy_endpoints(config: Config) -> dict[object, PolicyEndpoint]:
    """Read the tokens, and give each endpoint by the key of its Listen.  Blocks.

    :raises ConfigError: naming each token file that cannot be used.
    """
    problems: list[Problem] = []
    policy_endpoints = {}
    for listen in config.policy_listens:
        settings = config.resolve(listen, None)
        tokens: dict[str, str | None] = {}
        for field in ("token_file", "admin_token_file"):
            try:
                tokens[field] = read_token(settings, field)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                problems.append(problem_at(settings, field, f"{getattr(settings, field)}: {reason}"))
        token, admin_token = tokens.get("token_file"), tokens.get("admin_token_file")
        policy_endpoints[listen.key] = PolicyEndpoint(listen, settings, tls_settings(settings), token, admin_token)
    if problems:
        raise ConfigError(problems)
    return policy_endpoints


def read_token(settings: Settings, field: str) -> str | None:
    """Give the token in the file that an option names, or None where it names none.

    :raises OSError: where the file cannot be read.
    :raises ValueError: where it does not hold one token.
    """
    path: Path | None = getattr(settings, field)
    if path is None:
        return None
    with open_regular(path) as file:
        token = file.read(_LONGEST + 2).strip()  # with the end of its line, were it as long as can be
    if not (token.isascii() and token.decode("ascii").isprintable() and b" " not in token):
        raise ValueError("expected one token of printable ASCII characters without blanks")
    if not _SHORTEST <= len(token) <= _LONGEST:
        raise ValueError(f"expected a token of {_SHORTEST} to {_LONGEST} characters, found {len(token)}")
    return token.decode("ascii")


def token_warnings(config: Config) -> list[Problem]:
    """Warn of token files that others can read."""
    problems = []
    for settings in (config.resolve(listen, None) for listen in (*config.policy_listens, *config.status_listens)):
        for field in ("token_file", "admin_token_file"):
            path: Path | None = getattr(settings, field)
            if path is None:
                continue
            try:
                mode = path.stat().st_mode
            except OSError:
                continue  # told elsewhere, as an error
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                text = f"{path}: DANGER: others can read or change it (mode {stat.S_IMODE(mode):04o}); chmod 600 it"
                problems.append(problem_at(settings, field, text, Severity.WARNING))
    return list(dict.fromkeys(problems))


async def serve_policy_client(service: Service, endpoint: PolicyEndpoint, sock: socket.socket, peer: Peer) -> None:
    """Serve one policy client from its first byte to its last.  Raises nothing but cancellation."""
    transport = SocketTransport(sock)
    stream: trio.abc.Stream = transport
    certificate: bool | None = None
    try:
        reason = ""
        if isinstance(endpoint.listen.address, UnixAddress):
            reason = check_peer_credentials(sock, endpoint.listen.address.mode)
        if reason:
            service.emit(PolicyClientRefused(peer=peer.text, listener=endpoint.listen.name, reason=reason))
            return
        if endpoint.tls is not None:
            context = service.context(service.generation, endpoint.tls)
            key = transport if peer.address is None else peer_key(peer.address)
            acquire_thread = partial(service.flights.place, key, transport.is_gone)
            limit = endpoint.settings.tls_handshake_timeout
            stream, info = await handshake(context, transport, seconds=limit, acquire_thread=acquire_thread)
            if info.server_purpose:
                nobody = SessionInfo(id="", peer=peer.text, listener=endpoint.listen.name)
                service.emit(ServerCertificatePresented(session=nobody, tls=info))
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
        _log.debug("policy client %s is gone", peer.text)
    except Exception:  # noqa: BLE001 - one client's failure must not become the server's
        _log.exception("policy client %s failed", peer.text)
    finally:
        if isinstance(stream, TLSStream):
            stream.release()
        transport.close()
