"""The control socket: a Unix socket on which an operator's console asks and commands the running server.

One JSON object on each line, in both directions::

    {"words": ["config", "reload"]}
    {"status": 0, "text": "…", "data": {…}}

The file's mode keeps strangers out, and the kernel's word about who connected is checked as well: a folder or a mode
that somebody loosened opens nothing.
"""

import json
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import define, evolve, field, frozen

from triosmtp.config import Config, Listen, UnixAddress
from triosmtp.control.console_commands import Commands
from triosmtp.control.console_protocol import Answer
from triosmtp.control.control_path import default_place
from triosmtp.errors import ConfigError, Problem, Severity, is_transient
from triosmtp.sockets.listener import Peer, accept_connections, bind_unix, unlink_own_socket
from triosmtp.sockets.peer_credentials import check_peer_credentials
from triosmtp.sockets.transport import SocketTransport
from triosmtp.state import make_directory

__all__ = ["Control", "close_doors"]

_log = logging.getLogger("triosmtp.control")

_LONGEST_REQUEST: Final = 65536
_READ_TIMEOUT: Final = 10.0
_WRITE_TIMEOUT: Final = 10.0
_BACKLOG: Final = 128
_CONNECTIONS: Final = 16
"""At once; more are turned away."""


@frozen(slots=True)
class _Place:
    """A socket that is wanted; ``listen`` is where the configuration asks for it."""

    address: UnixAddress
    listen: Listen | None = None
    required: bool = True


@define(slots=True, eq=False)
class _Door:
    address: UnixAddress
    sock: socket.socket
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    inode: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inode = Path(self.address.path).lstat().st_ino

    def close(self, *, unlink: bool = True) -> None:
        self.scope.cancel()
        if unlink:
            unlink_own_socket(Path(self.address.path), self.inode)
        self.sock.close()


def close_doors(doors: Iterable[_Door]) -> None:
    """Close what :meth:`Control.open` gave, where it comes to nothing."""
    for door in doors:
        door.close()


class Control:
    """The control sockets of one server."""

    def __init__(self, given: Path | None = None) -> None:
        self._given = given
        self._doors: dict[str, _Door] = {}
        self._connections = 0

    @property
    def paths(self) -> list[str]:
        """Where it can be reached."""
        return list(self._doors)

    def open(self, config: Config) -> list[_Door]:
        """Bind the sockets that ``config`` asks for and that are not there yet, and change nothing else.

        Hand them to :meth:`follow`, or close them.

        :raises ConfigError: where one that was asked for cannot be had.  The default one may fail: that is a warning.
        """
        opened: list[_Door] = []
        for place in self._places(config):
            path = place.address.path
            if path in self._doors and Path(path).exists():
                continue  # but a folder of /run goes with its user's last session
            try:
                if place.listen is None:
                    make_directory(Path(path).parent)
                sock = bind_unix(place.address)
                sock.listen(_BACKLOG)
                sock.setblocking(False)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                if place.required:
                    close_doors(opened)
                    problem = evolve(_problem(place, reason), transient=_is_transient(error))
                    raise ConfigError([problem]) from error
                _log.warning("no control socket: %s: %s; --control gives it another place", path, reason)
            else:
                opened.append(_Door(place.address, sock))
        return opened

    def follow(self, config: Config, opened: list[_Door], commands: Commands, nursery: trio.Nursery) -> None:
        """Serve the ``opened`` sockets, too, and close those that ``config`` does not ask for any more."""
        wanted = {place.address.path: place.address for place in self._places(config)}
        for path in [path for path in self._doors if path not in wanted]:
            self._doors.pop(path).close()
        for path, door in self._doors.items():
            if door.address != wanted[path]:
                door.address = wanted[path]
                with suppress(FileNotFoundError):
                    Path(path).chmod(door.address.mode)
        for door in opened:
            old = self._doors.get(door.address.path)
            if old is not None:
                old.close(unlink=False)
            self._doors[door.address.path] = door
            nursery.start_soon(self._serve, door, commands, nursery, name=f"control {door.address.path}")

    def close(self) -> None:
        """Close all sockets."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()

    def _places(self, config: Config) -> list[_Place]:
        if self._given is not None:
            return [_Place(UnixAddress(str(self._given.absolute()), 0o600))]
        listens = config.control_listens
        if listens:
            return [_Place(each.address, each) for each in listens if isinstance(each.address, UnixAddress)]
        try:
            return [_Place(UnixAddress(str(default_place()), 0o600), required=False)]
        except RuntimeError as error:
            _log.warning("no control socket: %s", error)
            return []

    # Connections

    async def _serve(self, door: _Door, commands: Commands, nursery: trio.Nursery) -> None:
        with door.scope:  # but not the consoles: one of them may be waiting for the reload that closes this door
            await accept_connections(door.sock, partial(self._take, door, commands, nursery))

    def _take(self, door: _Door, commands: Commands, nursery: trio.Nursery, sock: socket.socket, _peer: Peer) -> None:
        refused = check_peer_credentials(sock, door.address.mode)
        if not refused and self._connections >= _CONNECTIONS:
            refused = "too many consoles at once"
        if refused:
            _log.warning("a console was turned away: %s", refused)
            with sock:
                _try_send(sock, _encode(Answer("refused", status=77)))
            return
        self._connections += 1
        nursery.start_soon(self._converse, SocketTransport(sock), commands, name="console")

    async def _converse(self, stream: SocketTransport, commands: Commands) -> None:
        lines = _Lines(stream)
        try:
            while True:
                with trio.fail_after(_READ_TIMEOUT):
                    line = await lines.read()
                if line is None:
                    return
                answer = await _answer(line, commands)
                data = await trio.to_thread.run_sync(_encode, answer)
                with trio.fail_after(_WRITE_TIMEOUT):
                    await stream.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.debug("a console is gone: %r", error)
        finally:
            self._connections -= 1
            stream.close()


class _Lines:
    """Reads lines of bounded length."""

    def __init__(self, stream: SocketTransport) -> None:
        self._stream = stream
        self._received = bytearray()

    async def read(self) -> bytes | None:
        """Give the next line; None at the end, ``b""`` for one that is too long, of which the rest is not read."""
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST_REQUEST:
                return b""
            data = await self._stream.receive_some(_LONGEST_REQUEST)
            if not data:
                return None
            self._received += data
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        return bytes(line)


async def _answer(line: bytes, commands: Commands) -> Answer:
    try:
        request = json.loads(line)
        words = request["words"]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TypeError("words are a list of strings")
    except (ValueError, TypeError, KeyError, RecursionError):
        return Answer('expected {"words": ["show", "inbound"]} on one line', status=64)
    try:
        return await commands.run(words)
    except Exception:  # noqa: BLE001 - a command's failure must not become the server's
        _log.exception("the command %r failed", " ".join(words)[:200])
        return Answer("the command failed; the server's log says why", status=70)


def _encode(answer: Answer) -> bytes:
    value = {"status": answer.status, "text": answer.text, "data": answer.data}
    return json.dumps(value).encode("ascii") + b"\n"


def _try_send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError as error:
        _log.debug("a console had gone already: %s", error)


def _problem(place: _Place, reason: str) -> Problem:
    if place.listen is None:
        return Problem(Severity.ERROR, f"--control {place.address.path}: {reason}")
    return place.listen.problem(f'Listen "{place.listen.name}": {reason}')


def _is_transient(error: Exception) -> bool:
    return isinstance(error, OSError) and is_transient(error)
