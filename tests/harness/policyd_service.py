"""Policy services of the tests: a recorder, and one whose answers a test chooses."""

import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TypeAlias

Request: TypeAlias = list[tuple[str, str]]
"""The attributes of a request, in their order."""
Answer: TypeAlias = Callable[[Request, socket.socket], None]
"""Answers one request; it may close the connection."""


def action(text: str) -> Answer:
    """Answer every request with one action."""
    return raw(f"action={text}\n\n".encode())


def raw(answer: bytes) -> Answer:
    """Answer every request with these octets."""
    return lambda _request, connection: connection.sendall(answer)


class PolicydService:
    """A policy service on a loopback port.  ``answer`` can be changed at any time; ``requests`` came so far."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._server: socketserver.ThreadingTCPServer | None = None
        self._open: list[socket.socket] = []

    @property
    def address(self) -> str:
        """The address as Policy has it."""
        return f"policyd:inet:127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        service = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                service.connections += 1
                service._open.append(self.request)
                with suppress(OSError):
                    service._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

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

    def _serve(self, connection: socket.socket) -> None:
        lines: Request = []
        with connection.makefile("r", encoding="utf-8", newline="\n") as stream:
            for line in stream:
                if line != "\n":
                    name, _, value = line.rstrip("\n").partition("=")
                    lines.append((name, value))
                    continue
                request, lines = lines, []
                self.requests.append(request)
                self.answer(request, connection)


@contextmanager
def policyd_service(answer: Answer | str = "DUNNO") -> Iterator[PolicydService]:
    """Run a policy service until the block is left; a text is an action."""
    service = PolicydService(action(answer) if isinstance(answer, str) else answer)
    service.start()
    try:
        yield service
    finally:
        service.stop()
