"""One SMTP client of the load: a plain blocking socket, a dialogue that waits for each reply, nothing in between."""

import socket
import ssl
from pathlib import Path

from attrs import define, frozen

from bench.scenario import Scenario

__all__ = ["Client", "Credentials", "connect", "expect_reply", "make_context", "make_message"]

_TIMEOUT = 30.0  # seconds: a server that is silent for so long has failed the test


@frozen(slots=True)
class Credentials:
    """PEM files: the authority that signed both sides, the server's pair, and a client's."""

    authority: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path


def make_message(size: int) -> bytes:
    """Make a message of ``size`` octets, CRLF line ends, no line that begins with a dot."""
    header = b"From: <load@example.org>\r\nTo: <sink@example.com>\r\nSubject: load\r\n\r\n"
    line = b"x" * 76 + b"\r\n"
    body = line * ((size - len(header)) // len(line))
    rest = size - len(header) - len(body)
    return header + body + (b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b"")


def make_context(scenario: Scenario, credentials: Credentials) -> ssl.SSLContext | None:
    """Make the client's TLS context, None for plaintext.  It never resumes: each handshake is a full one."""
    if scenario.security == "plain":
        return None
    context = ssl.create_default_context(cafile=str(credentials.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if scenario.security == "client-certificate":
        context.load_cert_chain(credentials.client_certificate, credentials.client_key)
    return context


@define(slots=True)
class Client:
    """A connection on which EHLO was said (again, after STARTTLS)."""

    _socket: socket.socket

    def deliver(self, payload: bytes) -> None:
        """Send one message; ``payload`` holds it and the end of data."""
        self._command(b"MAIL FROM:<load@example.org>\r\n", b"250")
        self._command(b"RCPT TO:<sink@example.com>\r\n", b"250")
        self._command(b"DATA\r\n", b"354")
        self._command(payload, b"250")

    def deliver_pipelined(self, payload: bytes) -> None:
        """Send one message; the envelope goes in one write."""
        self._socket.sendall(b"MAIL FROM:<load@example.org>\r\nRCPT TO:<sink@example.com>\r\nDATA\r\n")
        expect_reply(self._socket, b"354", replies=3)
        self._command(payload, b"250")

    def deliver_to(self, recipients: bytes, number: int, payload: bytes) -> None:
        """Send one message to so many recipients, whose RCPT commands are ``recipients``; the envelope is pipelined."""
        self._socket.sendall(b"MAIL FROM:<load@example.org>\r\n" + recipients + b"DATA\r\n")
        expect_reply(self._socket, b"354", replies=number + 2)
        self._command(payload, b"250")

    def noop(self) -> None:
        """Send NOOP, and wait for the answer."""
        self._command(b"NOOP\r\n", b"250")

    def quit(self) -> None:
        """Send QUIT, wait for the answer, close."""
        self._command(b"QUIT\r\n", b"221")
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self._socket.close()

    def _command(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line)
        expect_reply(self._socket, code)


def expect_reply(sock: socket.socket, code: bytes, replies: int = 1) -> None:
    """Read up to the end of a reply; more than one must be of one line each."""
    data = sock.recv(8192)
    while True:
        if data.endswith(b"\r\n") and data.count(b"\n") >= replies:
            last = data[data.rfind(b"\n", 0, -1) + 1 :]
            if last[3:4] in b" \r":
                break
        more = sock.recv(8192)
        if not more:
            raise ConnectionError(f"the server closed after {data!r}")
        data += more
    if not last.startswith(code):
        raise ConnectionError(f"expected {code!r}, got {data!r}")


def connect(port: int, context: ssl.SSLContext | None) -> Client:
    """Connect to 127.0.0.1 and send EHLO, with STARTTLS if there is a ``context``."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    expect_reply(sock, b"220")
    sock.sendall(b"EHLO load.example.org\r\n")
    expect_reply(sock, b"250")
    if context is not None:
        sock.sendall(b"STARTTLS\r\n")
        expect_reply(sock, b"220")
        sock = context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(b"EHLO load.example.org\r\n")
        expect_reply(sock, b"250")
    return Client(sock)
