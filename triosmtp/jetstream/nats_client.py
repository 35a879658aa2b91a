"""One connection to a server of NATS, by nats-py, for code that runs in an asyncio event loop.

nats-py reconnects on its own, but a task of it that fails unexpectedly leaves the client silent for ever.  So each
:class:`NATSConnection` is used once, and :mod:`triosmtp.jetstream.nats_thread` opens the next one.

nats-py uses TLS only if the server asks for it in plaintext.  Here a server that does not ask is refused, before
anything is sent to it.
"""

import asyncio
import hashlib
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import nats.errors
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nats.aio.client import Client
from nats.aio.msg import Msg

from triosmtp.config import RelayClient
from triosmtp.jetstream.nats_credentials import NATSCredentialsError, read_credentials, read_secret
from triosmtp.jetstream.nats_parser import NATSParser, printable_subject, read_status
from triosmtp.jetstream.stream_address import Server, show_servers

__all__ = [
    "ConnectionLostError", "NATSConnection", "NATSLogin", "NoRespondersError", "PayloadTooLargeError",
    "open_connection",
]  # fmt: skip

_log = logging.getLogger("triosmtp.nats")

_CLOSE_TIMEOUT: Final = 1
_PING_INTERVAL: Final = 3
"""Seconds.  After two pings without an answer the connection is closed."""
_MAX_PENDING: Final = 256 * 1024
"""Octets that wait to be sent before a publisher waits."""


class ConnectionLostError(Exception):
    """The connection ended before an answer came."""


class PayloadTooLargeError(Exception):
    """The server accepts no payload of this size."""


class NoRespondersError(Exception):
    """Nobody answers on the subject: JetStream is off, or the stream has no leader, or no stream has the subject."""


@frozen(slots=True, kw_only=True)
class NATSLogin:
    """How to connect to the servers."""

    name: str = "triosmtp"
    """The name of the client, for the server's monitoring."""
    tls: bool = False
    """Whether TLS is required."""
    tls_context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Return a context; it is made for each connection, from the files as they are then.  It is also used if only the
    server requires TLS."""
    tls_name: str | None = None
    """The name that the server's certificate must have; None: the host of the address."""
    tls_fingerprints: tuple[RelayClient, ...] = ()
    """Fingerprints, one of which the certificate of the server must have; empty: any."""
    connect_timeout: float = 5.0
    """Seconds for connecting, TLS included."""
    credentials_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


class _Client(Client):
    """A client that sends nothing without TLS if TLS is required, and that no message of others can stop."""

    def __init__(self, login: NATSLogin) -> None:
        super().__init__()
        self._login = login
        self._ps = NATSParser(self)

    async def _process_headers(self, headers: bytes | None) -> dict[str, Any] | None:
        return read_status(headers)

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg | None:
        texts = printable_subject(subject), printable_subject(reply)
        message: Msg | None = super()._build_message(sid, *texts, data, headers)
        return message

    def _connect_command(self) -> bytes:  # the first octets that a client sends, after the handshake
        if self._login.tls:
            if not self._server_info.get("tls_required"):
                raise nats.errors.Error("the server does not offer TLS, which is required")
            self._check_fingerprint()
        return super()._connect_command()

    def _check_fingerprint(self) -> None:
        wanted = self._login.tls_fingerprints
        if not wanted:
            return
        assert self._transport is not None
        writer: asyncio.StreamWriter = self._transport._io_writer  # type: ignore[attr-defined]  # noqa: SLF001
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not {RelayClient("sha256", _sha256(certificate)), RelayClient("spki", _sha256(_key_of(certificate)))} & {
            *wanted
        }:
            raise nats.errors.Error("the certificate of the server is not one of TLS_Fingerprints")


if not {"_connect_command", "_process_headers", "_build_message", "_process_msg"} <= vars(Client).keys():
    raise ImportError("this version of nats-py is unknown: TLS could not be enforced with it")


class NATSConnection:
    """A connection.  Its answers come through one subscription; all requests fail as soon as it is lost."""

    def __init__(self, client: Client, inbox: str, closed: asyncio.Event) -> None:
        self.client = client
        self.closed = closed
        """Set when the connection has ended."""
        self._inbox = inbox
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._last = 0

    @property
    def max_payload(self) -> int:
        """The octets that the server accepts in one message, with its headers."""
        return self.client.max_payload

    async def subscribe_inbox(self) -> None:
        """Subscribe to the answers."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def _on_answer(self, answer: Msg) -> None:
        future = self._waiting.get(answer.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(answer)

    def fail_requests(self) -> None:
        """Let every request fail: the connection is lost."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLostError("the connection to NATS was lost"))

    async def request(
        self, subject: str, payload: bytes = b"", *, seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Publish ``payload`` and return the answer.

        :raises TimeoutError: if there is none within ``seconds``.
        :raises NoRespondersError: if nobody listens on the subject.
        :raises PayloadTooLargeError: if payload and headers have more octets than the server accepts.
        :raises ConnectionLostError: if the connection is lost.
        """
        if self.closed.is_set():
            raise ConnectionLostError("the connection to NATS was lost")
        size = len(payload) + _size_of(headers)
        if size > self.max_payload:  # the server would close the connection
            raise PayloadTooLargeError(f"{size} octets, and the server accepts {self.max_payload} (max_payload)")
        self._last += 1
        token = f"{self._last:x}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            async with asyncio.timeout(seconds):
                try:
                    await self.client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
                except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError, OSError) as error:
                    raise ConnectionLostError(f"the connection to NATS was lost: {error}") from None
                answer = await future
        finally:
            del self._waiting[token]
        if answer.headers is not None and answer.headers.get("Status") == "503":
            raise NoRespondersError(f"no answer on {subject}")
        return answer

    async def request_json(self, subject: str, body: Mapping[str, Any] | None = None, *, seconds: float) -> Any:
        """Send a request to the API of JetStream, and return its answer.

        :raises ValueError: if the answer is not JSON.
        """
        answer = await self.request(subject, b"" if body is None else json.dumps(body).encode(), seconds=seconds)
        return json.loads(answer.data)

    async def close(self) -> None:
        """Close the connection."""
        await _close(self.client)


async def open_connection(server: Server, login: NATSLogin) -> NATSConnection:
    """Connect to one server.

    :raises OSError: if it cannot be reached, or TLS fails.
    :raises TimeoutError: if it does not answer in time.
    :raises nats.errors.Error: if it refuses the client, or offers no TLS.
    :raises NATSCredentialsError: if the files of the login cannot be used.
    """
    loop = asyncio.get_running_loop()
    options = await loop.run_in_executor(None, partial(_login_options, login))
    closed = asyncio.Event()
    client = _Client(login)
    failures: list[Exception] = []

    async def on_closed() -> None:
        closed.set()
        connection.fail_requests()

    async def on_error(error: Exception) -> None:
        failures.append(error)
        del failures[:-4]
        _log.debug("%s: %r", show_servers((server,)), error)

    # New inboxes for each connection: an answer to an earlier one is not taken for another request.
    connection = NATSConnection(client, client.new_inbox(), closed)
    try:
        async with asyncio.timeout(login.connect_timeout):
            await client.connect(
                [show_servers((server,))],
                name=login.name,
                error_cb=on_error,
                closed_cb=on_closed,
                allow_reconnect=False,
                connect_timeout=max(1, round(login.connect_timeout)),
                reconnect_time_wait=0,
                max_reconnect_attempts=1,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=2,
                pending_size=_MAX_PENDING,
                tls_hostname=login.tls_name,
                **options,
            )
            await connection.subscribe_inbox()
    except BaseException as error:
        await _close(client)
        if isinstance(error, nats.errors.NoServersError) and failures:
            raise failures[-1] from None
        raise
    return connection


def _size_of(headers: Mapping[str, str] | None) -> int:
    """Return the octets of headers in the protocol."""
    if not headers:
        return 0
    return len("NATS/1.0\r\n\r\n") + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key_of(certificate: bytes) -> bytes:
    """Return the public key of a certificate, as SubjectPublicKeyInfo."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def _close(client: Client) -> None:
    """Close a client.  It waits for the end of TLS, which may never come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()


def _login_options(login: NATSLogin) -> dict[str, Any]:
    """Return the options of nats-py for the files of ``login``.  It blocks."""
    options: dict[str, Any] = {}
    try:
        options["tls"] = login.tls_context()
    except (OSError, ValueError) as error:
        raise NATSCredentialsError(f"TLS: {error}") from None
    if login.credentials_file is not None:
        credentials = read_credentials(login.credentials_file)
        options["user_jwt_cb"] = credentials.jwt.encode
        options["signature_cb"] = credentials.sign
    if login.user is not None and login.password_file is not None:
        options["user"], options["password"] = login.user, read_secret(login.password_file)
    return options
