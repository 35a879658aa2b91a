"""The floor: a bare Trio accept loop, a thin stream over a non-blocking socket, and just enough SMTP to take a message.

Nothing is checked and nothing is kept: what a real server costs beyond this is what its features cost.  With a
certificate, STARTTLS is triosmtp's handshake and the `trio.SSLStream` that it makes, over triosmtp's own transport: the
floor of both. With `--sslstream` the stream does its handshake by itself, over triosmtp's adapter.
Run as `python -m bench.bare_trio [--sslstream] PORT [CERTIFICATE KEY [CLIENT_CA]]`.
"""

import socket
import sys
from functools import partial
from pathlib import Path

import trio

from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import (
    CertificateFiles,
    ServerContext,
    TLSSettings,
    TLSStream,
    build_context,
    load_material,
)
from triosmtp.tls.handshake import handshake

__all__ = ["main"]

_READ = 256 * 1024
_REPLIES = {
    b"EHLO": b"250-bare\r\n250-STARTTLS\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"MAIL": b"250 OK\r\n",
    b"RCPT": b"250 OK\r\n",
    b"DATA": b"354 Go on\r\n",
    b"STAR": b"220 Go on\r\n",
    b"QUIT": b"221 Bye\r\n",
}


async def _session(sock: socket.socket, context: ServerContext | None, *, pump: bool) -> None:
    transport = SocketTransport(sock)
    peer: trio.abc.Stream = transport
    stream: TLSStream[SocketTransport] | None = None
    with sock:
        await peer.send_all(b"220 bare ESMTP\r\n")
        buffer = b""
        while True:
            while b"\n" not in buffer:
                received = await peer.receive_some(_READ)
                if not received:
                    return
                buffer += received
            line, _, buffer = buffer.partition(b"\n")
            verb = line[:4].upper()
            await peer.send_all(_REPLIES.get(verb, b"500 What?\r\n"))
            if verb == b"DATA":
                buffer = await _body(peer, buffer)
                await peer.send_all(b"250 OK\r\n")
            elif verb == b"STAR" and context is not None:
                if pump:
                    stream, _ = await handshake(context, transport)
                    peer = stream.ssl_stream
                else:
                    peer = trio.SSLStream(transport, context.as_ssl_context(), server_side=True, https_compatible=True)
                    await peer.do_handshake()
            elif verb == b"QUIT":
                break
        if stream is not None:
            stream.release()


async def _body(peer: trio.abc.Stream, received: bytes) -> bytes:
    """Read up to the end of data, and return the octets after it."""
    tail = b"\r\n"
    while True:
        window = tail + received
        end = window.find(b"\r\n.\r\n")
        if end >= 0:
            return window[end + 5 :]
        tail = window[-4:]
        received = bytes(await peer.receive_some(_READ))
        if not received:
            raise ConnectionError("the peer closed within a message")


def _context(certificate: str, key: str, client_ca: str = "") -> ServerContext:
    settings = TLSSettings(
        certificates=(CertificateFiles(Path(certificate), Path(key)),),
        client_ca=Path(client_ca) if client_ca else None,
        request_certificate=bool(client_ca),
    )
    return build_context(load_material(settings))


async def _serve(port: int, context: ServerContext | None, *, pump: bool) -> None:
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
            nursery.start_soon(partial(_session, sock, context, pump=pump))


def main() -> None:
    """Serve until killed."""
    words = [word for word in sys.argv[1:] if word != "--sslstream"]
    context = _context(*words[1:]) if len(words) > 1 else None
    trio.run(partial(_serve, int(words[0]), context, pump="--sslstream" not in sys.argv))


if __name__ == "__main__":
    main()
