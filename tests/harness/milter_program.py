"""A milter of the tests: it records every frame, and answers as a test says.  It knows no code of the server."""

import socket
import socketserver
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import TypeAlias

from attrs import define, field

ALL_ACTIONS = 0x1FF
CONTINUE = b"c"

Answers: TypeAlias = Callable[[str, bytes], Iterable[bytes]]
"""Returns the frames that answer a command: each a code and its data, without the length."""


def packet(data: bytes) -> bytes:
    """Return a frame with its length."""
    return struct.pack(">I", len(data)) + data


def strings(*texts: str) -> bytes:
    """Return texts, each with its zero."""
    return b"".join(text.encode() + b"\0" for text in texts)


@define
class Recorded:
    """The frames of one connection."""

    frames: list[tuple[str, bytes]] = field(factory=list)

    @property
    def commands(self) -> str:
        """Return the codes of all commands, without macros."""
        return "".join(code for code, _ in self.frames if code != "D")

    def macros(self) -> list[tuple[str, dict[str, str]]]:
        """Return the macros of each command that has some, in their order."""
        found = []
        for code, data in self.frames:
            if code == "D":
                texts = data[1:].decode().split("\0")[:-1]
                found.append((chr(data[0]), dict(zip(texts[::2], texts[1::2], strict=True))))
        return found

    def data_of(self, code: str) -> list[bytes]:
        """Return the data of all commands with this code."""
        return [data for each, data in self.frames if each == code]


class MilterProgram:
    """A milter on a loopback port or a Unix socket.  All attributes may be changed at any time."""

    def __init__(self, answers: Answers | None = None, path: str = "") -> None:
        self.answers: Answers = answers or (lambda _code, _data: (CONTINUE,))
        self.actions = ALL_ACTIONS
        self.protocol = 0
        """The steps and replies that it does not want."""
        self.raw_negotiation: bytes | None = None
        """Octets in place of the answer to the negotiation, which then ends the connection."""
        self.symbols: list[tuple[int, str]] = []
        self.sessions: list[Recorded] = []
        self.changed = Condition()
        self.path = path
        self.port = 0
        self.offered: tuple[int, int, int] = (0, 0, 0)
        self._server: socketserver.ThreadingTCPServer | socketserver.ThreadingUnixStreamServer | None = None
        self._open: list[socket.socket] = []

    @property
    def address(self) -> str:
        """Return the address as Policy has it."""
        return f"milter:unix:{self.path}" if self.path else f"milter:inet:127.0.0.1:{self.port}"

    @property
    def last(self) -> Recorded:
        """Return the newest connection."""
        return self.sessions[-1]

    def start(self) -> None:
        """Listen, on the same port as before."""
        program = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                recorded = Recorded()
                program.sessions.append(recorded)
                program._open.append(self.request)
                with suppress(OSError):
                    program._serve(self.request, recorded)

        class TCPServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        class UnixServer(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        if self.path:
            server: socketserver.ThreadingTCPServer | socketserver.ThreadingUnixStreamServer = UnixServer(
                self.path, Handler
            )
        else:
            server = TCPServer(("127.0.0.1", self.port), Handler)
            self.port = server.server_address[1]
        self._server = server
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        while self._open:
            connection = self._open.pop()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Wait until a frame has made this true."""
        with self.changed:
            assert self.changed.wait_for(done, timeout=30)

    def _serve(self, connection: socket.socket, recorded: Recorded) -> None:
        stream = connection.makefile("rb")
        while header := stream.read(4):
            frame = stream.read(struct.unpack(">I", header)[0])
            code, data = chr(frame[0]), frame[1:]
            with self.changed:
                recorded.frames.append((code, data))
                self.changed.notify_all()
            if code == "O":
                if self.raw_negotiation is not None:
                    connection.sendall(self.raw_negotiation)
                    return
                self.offered = struct.unpack(">III", data[:12])
                chosen = struct.pack(">III", self.offered[0], self.actions, self.protocol & self.offered[2])
                for stage, names in self.symbols:
                    chosen += struct.pack(">I", stage) + strings(names)
                connection.sendall(packet(b"O" + chosen))
            elif code not in "DAQK":
                answers = self.answers(code, data)
                if isinstance(answers, tuple):
                    connection.sendall(b"".join(map(packet, answers)))
                else:
                    for answer in answers:
                        connection.sendall(packet(answer))


@contextmanager
def milter_program(answers: Answers | None = None, path: str = "") -> Iterator[MilterProgram]:
    """Run a milter until the block is left."""
    program = MilterProgram(answers, path)
    program.start()
    try:
        yield program
    finally:
        program.stop()
