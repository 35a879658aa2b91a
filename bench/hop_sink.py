"""A next hop that accepts everything and keeps nothing: ``python -m bench.hop_sink lmtp PATH`` or ``smtp PORT``.

It prints a line when it listens.  One thread serves each connection.
"""

import socket
import sys
import threading
from contextlib import suppress

__all__ = ["main"]

_HELLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 100000000\r\n"


def _serve(connection: socket.socket, lmtp: bool) -> None:
    with connection:
        connection.sendall(b"220 sink\r\n")
        received, recipients = b"", 0
        while data := connection.recv(262_144):
            received += data
            replies = b""
            while (end := received.find(b"\r\n")) >= 0:
                line, received = received[:end].upper(), received[end + 2 :]
                if line.startswith((b"EHLO", b"LHLO")):
                    replies += _HELLO
                elif line == b"DATA":
                    connection.sendall(replies + b"354 Go\r\n")
                    received = _skip_body(connection, received)
                    replies = b"250 2.0.0 Ok\r\n" * (recipients if lmtp else 1)
                else:
                    recipients = recipients + 1 if line.startswith(b"RCPT") else 0
                    replies += b"250 2.0.0 Ok\r\n"
            connection.sendall(replies)


def _skip_body(connection: socket.socket, received: bytes) -> bytes:
    """Read up to the end of the data; return what follows it."""
    received = b"\r\n" + received
    while (end := received.find(b"\r\n.\r\n")) < 0:
        data = connection.recv(262_144)
        if not data:
            raise EOFError
        received = received[-4:] + data
    return received[end + 5 :]


def _run(connection: socket.socket, lmtp: bool) -> None:
    with suppress(OSError, EOFError):
        _serve(connection, lmtp)


def main() -> None:
    """Listen, and serve until killed."""
    scheme, place = sys.argv[1:]
    family = socket.AF_UNIX if scheme == "lmtp" else socket.AF_INET
    with socket.socket(family) as listener:
        if family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place if scheme == "lmtp" else ("127.0.0.1", int(place)))
        listener.listen(128)
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            if family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_run, args=(connection, scheme == "lmtp"), daemon=True).start()


if __name__ == "__main__":
    main()
