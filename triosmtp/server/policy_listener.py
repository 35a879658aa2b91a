"""The doors for policy clients: what a Listen of a Policy_Listener demands of whoever comes, and the way in."""

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
from triosmtp.errors import ConfigError, HandshakeError, Problem
from triosmtp.event import PolicyClientRefused, ServerCertificatePresented, SessionInfo
from triosmtp.limits.peer_count import peer_key
from triosmtp.policy_service.hub import Access
from triosmtp.server.profile import tls_settings
from triosmtp.server.service import Service
from triosmtp.sockets.listener import Peer
from triosmtp.sockets.peer_credentials import stranger
from triosmtp.sockets.transport import SocketTransport
from triosmtp.state import open_regular
from triosmtp.tls import TLSSettings, TLSStream, handshake

__all__ = ["CLIENTS", "CLIENTS_OF_ONE_PEER", "Door", "let_in", "open_doors", "read_token", "token_problems"]

_log = logging.getLogger("triosmtp.server")

_SHORTEST: Final = 16
_LONGEST: Final = 4096
CLIENTS: Final = 64
"""Policy clients at once; further ones are turned away."""
CLIENTS_OF_ONE_PEER: Final = 32
"""Of these, those of one address, loopback and Unix sockets apart: nobody holds all places who has shown no token."""


@frozen(slots=True)
class Door:
    """What is demanded at one Listen."""

    listen: Listen
    settings: Settings
    tls: TLSSettings | None
    token: str | None = attrs.field(repr=False)
    admin_token: str | None = attrs.field(repr=False)


def open_doors(config: Config) -> dict[object, Door]:
    """Read the tokens, and give each door by the key of its Listen.  Blocks.

    :raises ConfigError: naming each token file that cannot be used.
    """
    problems: list[Problem] = []
    doors = {}
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
        doors[listen.key] = Door(listen, settings, tls_settings(settings), token, admin_token)
    if problems:
        raise ConfigError(problems)
    return doors


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


def token_problems(config: Config) -> list[Problem]:
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
                problems.append(problem_at(settings, field, text, "warning"))
    return list(dict.fromkeys(problems))


async def let_in(service: Service, door: Door, sock: socket.socket, peer: Peer) -> None:
    """Serve one policy client from its first byte to its last.  Raises nothing but cancellation."""
    transport = SocketTransport(sock)
    stream: trio.abc.Stream = transport
    certificate: bool | None = None
    try:
        reason = ""
        if isinstance(door.listen.address, UnixAddress):
            reason = stranger(sock, door.listen.address.mode)
        if reason:
            service.emit(PolicyClientRefused(peer=peer.text, listener=door.listen.name, reason=reason))
            return
        if door.tls is not None:
            context = service.context(service.generation, door.tls)
            key = transport if peer.address is None else peer_key(peer.address)
            place = partial(service.flights.place, key, transport.is_gone)
            limit = door.settings.tls_handshake_timeout
            stream, info = await handshake(context, transport, seconds=limit, place=place)
            if info.server_purpose:
                nobody = SessionInfo(id="", peer=peer.text, listener=door.listen.name)
                service.emit(ServerCertificatePresented(session=nobody, tls=info))
            certificate = None if info.client_certificate is None else info.verified
        access = Access(
            listener=door.listen.name,
            peer=peer.text,
            local=isinstance(door.listen.address, UnixAddress),
            encrypted=door.tls is not None,
            certificate=certificate,
            body_limit=door.settings.body_limit,
            token=door.token,
            admin_token=door.admin_token,
        )
        await service.hub.serve_client(stream, access)
    except HandshakeError as error:
        service.emit(PolicyClientRefused(peer=peer.text, listener=door.listen.name, reason=f"TLS: {error}"))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        _log.debug("policy client %s is gone", peer.text)
    except Exception:  # noqa: BLE001 - one client's failure must not become the server's
        _log.exception("policy client %s failed", peer.text)
    finally:
        if isinstance(stream, TLSStream):
            stream.release()
        transport.close()
