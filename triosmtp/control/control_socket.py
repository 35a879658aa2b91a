"""The control socket: a Unix socket on which an operator's console sends commands to the running server.

``console_protocol.py`` has the format.  The mode of the file keeps other users out.  The server also checks the peer's
credentials as the kernel reports them, so that a changed mode of the file or its folder permits nothing.
"""

import logging
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import define, evolve, frozen

from triosmtp.config import Config, Listen, UnixAddress
from triosmtp.control.console_commands import ConsoleCommands
from triosmtp.control.console_protocol import ConsoleRequest, ConsoleResponse
from triosmtp.control.control_path import default_control_path
from triosmtp.errors import ConfigError, Problem, Severity, is_transient
from triosmtp.filesystem import make_directory
from triosmtp.sockets.listener import open_unix_socket
from triosmtp.sockets.listening_socket import ListeningSocket, close_sockets
from triosmtp.sockets.peer import Peer
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport, refuse_connection

__all__ = ["ControlSocket", "ControlSockets"]

_log = logging.getLogger("triosmtp.control")

_MAX_REQUEST_SIZE: Final = 65536
_READ_TIMEOUT: Final = 10.0
_WRITE_TIMEOUT: Final = 10.0
_BACKLOG: Final = 128
_MAX_CONNECTIONS: Final = 16


@frozen(slots=True)
class _WantedSocket:
    """A socket that the configuration asks for in ``listen``; without ``listen``, the command line or the default."""

    address: UnixAddress
    listen: Listen | None = None
    required: bool = True

    def problem(self, reason: str) -> Problem:
        if self.listen is None:
            return Problem(Severity.ERROR, f"--control {self.address.path}: {reason}")
        return self.listen.problem(f'Listen "{self.listen.name}": {reason}')


@define(slots=True, eq=False)
class ControlSocket(ListeningSocket):
    """A control socket."""

    wanted: UnixAddress


class ControlSockets:
    """The control sockets of one server.

    ``path`` is the one of the command line, which replaces those of the configuration.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._sockets: dict[str, ControlSocket] = {}
        self._connections = 0

    @property
    def paths(self) -> list[str]:
        """The paths of the sockets that are served."""
        return list(self._sockets)

    def open(self, config: Config) -> list[ControlSocket]:
        """Bind the sockets of ``config`` that are not served yet, and change nothing else.

        Pass them to :meth:`apply` or :func:`~triosmtp.sockets.listening_socket.close_sockets`.

        :raises ConfigError: if a socket cannot be bound.  For the default socket, that is only a warning in the log.
        """
        opened: list[ControlSocket] = []
        for wanted in self._wanted_sockets(config):
            path = wanted.address.path
            if path in self._sockets and Path(path).exists():
                continue  # logind removes a folder below /run with the last session of its user
            try:
                if wanted.listen is None:
                    make_directory(Path(path).parent)
                sock = open_unix_socket(wanted.address, _BACKLOG)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                if wanted.required:
                    close_sockets(opened)
                    transient = isinstance(error, OSError) and is_transient(error)
                    raise ConfigError([evolve(wanted.problem(reason), transient=transient)]) from error
                _log.warning("no control socket: %s: %s; choose another path with --control", path, reason)
            else:
                opened.append(ControlSocket(sock, wanted.address))
        return opened

    def apply(
        self, config: Config, opened: list[ControlSocket], commands: ConsoleCommands, nursery: trio.Nursery
    ) -> None:
        """Serve the ``opened`` sockets, and close those that are not in ``config`` any more."""
        wanted = {each.address.path: each.address for each in self._wanted_sockets(config)}
        for path in [path for path in self._sockets if path not in wanted]:
            self._sockets.pop(path).close()
        for path, kept in self._sockets.items():
            if kept.wanted != wanted[path]:
                kept.wanted = wanted[path]
                with suppress(FileNotFoundError):
                    Path(path).chmod(kept.wanted.mode)
        for each in opened:
            path = each.wanted.path
            old = self._sockets.get(path)
            if old is not None:
                old.close(unlink=False)
            self._sockets[path] = each
            # The consoles are outside of this task: one of them may wait for the reload that closes this socket.
            nursery.start_soon(each.accept, partial(self._accept, commands, nursery), name=f"control {path}")

    def close(self) -> None:
        """Close all sockets."""
        close_sockets(self._sockets.values())
        self._sockets.clear()

    def _wanted_sockets(self, config: Config) -> list[_WantedSocket]:
        if self._path is not None:
            return [_WantedSocket(UnixAddress(str(self._path.absolute()), 0o600))]
        listens = config.control_listens
        if listens:
            return [_WantedSocket(each.address, each) for each in listens if isinstance(each.address, UnixAddress)]
        try:
            return [_WantedSocket(UnixAddress(str(default_control_path()), 0o600), required=False)]
        except RuntimeError as error:
            _log.warning("no control socket: %s", error)
            return []

    # Connections

    def _accept(
        self,
        commands: ConsoleCommands,
        nursery: trio.Nursery,
        control: ControlSocket,
        sock: socket.socket,
        _peer: Peer,
    ) -> None:
        refused = check_peer_credentials(sock, control.wanted.mode)
        if not refused and self._connections >= _MAX_CONNECTIONS:
            refused = f"more than {_MAX_CONNECTIONS} consoles"
        if refused:
            _log.warning("console refused: %s", refused)
            refuse_connection(sock, ConsoleResponse("refused", status=77).encode())
            return
        self._connections += 1
        nursery.start_soon(self._serve_console, SocketTransport(sock), commands, name="console")

    async def _serve_console(self, stream: SocketTransport, commands: ConsoleCommands) -> None:
        lines = _LineReader(stream)
        try:
            while True:
                with trio.fail_after(_READ_TIMEOUT):
                    line = await lines.read()
                if line is None:
                    return
                response = await _respond(line, commands)
                data = await trio.to_thread.run_sync(response.encode)
                with trio.fail_after(_WRITE_TIMEOUT):
                    await stream.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.debug("console disconnected: %r", error)
        finally:
            self._connections -= 1
            stream.close()


class _LineReader:
    """Reads lines of bounded length."""

    def __init__(self, stream: SocketTransport) -> None:
        self._stream = stream
        self._received = bytearray()

    async def read(self) -> bytes | None:
        """Return the next line; None at the end, ``b""`` for a line that is too long, whose rest is not read."""
        while b"\n" not in self._received:
            if len(self._received) > _MAX_REQUEST_SIZE:
                return b""
            data = await self._stream.receive_some(_MAX_REQUEST_SIZE)
            if not data:
                return None
            self._received += data
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        return bytes(line)


async def _respond(line: bytes, commands: ConsoleCommands) -> ConsoleResponse:
    try:
        request = ConsoleRequest.decode(line)
    except ValueError:
        return ConsoleResponse('expected {"words": ["show", "inbound"]} on one line', status=64)
    try:
        return await commands.run(request.words)
    except Exception:  # noqa: BLE001 - a command that fails must not end the server
        _log.exception("console command %r failed", " ".join(request.words)[:200])
        return ConsoleResponse("the command failed; the server's log has the reason", status=70)
