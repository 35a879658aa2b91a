"""The floor: a bare Trio accept loop, a thin stream over a non-blocking socket, and just enough SMTP to take a message.

Nothing is checked and nothing is kept: what a real server costs beyond this is what its features cost.  Plaintext only.
Run as `python -m bench.bare_trio PORT`.
"""

import socket
import sys
from contextlib import suppress

import trio

__all__ = ["main"]

_READ = 256 * 1024
_REPLIES = {
    b"EHLO": b"250-bare\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"MAIL": b"250 OK\r\n",
    b"RCPT": b"250 OK\r\n",
    b"DATA": b"354 Go on\r\n",
    b"QUIT": b"221 Bye\r\n",
}


class _Peer:
    """A thin stream: wait until there is something to read, send at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return self._sock.recv(_READ)
            except BlockingIOError:
                continue

    async def send(self, data: bytes) -> None:
        while True:
            with suppress(BlockingIOError):
                data = data[self._sock.send(data) :]
            if not data:
                return
            await trio.lowlevel.wait_writable(self._fd)


async def _session(sock: socket.socket) -> None:
    peer = _Peer(sock)
    with sock:
        await peer.send(b"220 bare ESMTP\r\n")
        buffer = b""
        while True:
            while b"\n" not in buffer:
                received = await peer.receive()
                if not received:
                    return
                buffer += received
            line, _, buffer = buffer.partition(b"\n")
            verb = line[:4].upper()
            await peer.send(_REPLIES.get(verb, b"500 What?\r\n"))
            if verb == b"DATA":
                buffer = await _body(peer, buffer)
                await peer.send(b"250 OK\r\n")
            elif verb == b"QUIT":
                return


async def _body(peer: _Peer, received: bytes) -> bytes:
    """Read up to the end of data, and give what came after it."""
    tail = b"\r\n"
    while True:
        window = tail + received
        end = window.find(b"\r\n.\r\n")
        if end >= 0:
            return window[end + 5 :]
        tail = window[-4:]
        received = await peer.receive()
        if not received:
            raise ConnectionError("the peer closed within a message")


async def _serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=500)
    listener.setblocking(False)
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(listener.fileno())
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            nursery.start_soon(_session, sock)


def main() -> None:
    """Serve until killed."""
    trio.run(_serve, int(sys.argv[1]))


if __name__ == "__main__":
    main()
