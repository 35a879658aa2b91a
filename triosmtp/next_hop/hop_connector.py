"""Opens connections to a next hop: TCP or Unix socket, banner, TLS, EHLO, AUTH.

Each failure in here is one of the hop or of this server, never of a message.  The certificate is checked before
anything is sent under TLS, and AUTH is sent under TLS only.
"""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from triosmtp.auth import SaslClient, SaslClientError
from triosmtp.delivery.secret_file import SecretFile, SecretFileError
from triosmtp.errors import HandshakeError, connect_failure
from triosmtp.next_hop.hop_connection import HopConnection
from triosmtp.next_hop.hop_error import HopError
from triosmtp.next_hop.hop_settings import HopAddress, HopSettings, own_name
from triosmtp.smtp.client_command import auth_command, auth_response, hello_command
from triosmtp.smtp.extensions import Extensions
from triosmtp.smtp.reply_parser import ReceivedReply, ReplyError
from triosmtp.sockets.unix_client import connect_unix_socket
from triosmtp.tls.client import TLSClient
from triosmtp.tls.client_context import ClientContext
from triosmtp.tls.server_identity import ServerIdentityError, check_server_identity
from triosmtp.tls.settings import MaterialError

__all__ = ["HopConnector"]

_AVOIDED: Final = 60.0
"""Seconds for which an address that failed is tried after the others."""
_MAX_IPS: Final = 8
"""IP addresses of a host that are tried."""
_WATCH: Final = 60.0
"""Seconds between two looks at files, if no connection looks at them before."""
_MAX_STEPS: Final = 4
"""Challenges of one AUTH."""

OnHello = Callable[[HopAddress, Extensions, bool], None]
"""Called with the extensions that a hop declared in its last EHLO, and whether its certificate was checked."""


class HopConnector:
    """Opens connections by the settings of one hop.  ``on_hello`` is called for each connection that is ready."""

    def __init__(self, settings: HopSettings, on_hello: OnHello) -> None:
        self._settings = settings
        self._on_hello = on_hello
        self._context = ClientContext(settings.tls_files)
        path = settings.auth_password_file
        self._password = None if path is None else SecretFile(path)
        self._failed = _RecentFailures()

    def check_tls(self) -> None:
        """Read the files of TLS.  Blocking.

        :raises MaterialError: if one cannot be used.
        """
        if any(address.tls != "no" for address in self._settings.addresses):
            self._context.refresh()

    def check_password(self) -> None:
        """Read the file with the password.  Blocking.

        :raises SecretFileError: if it cannot be used.
        """
        if self._password is not None:
            self._password.check()

    async def watch_files(self) -> None:
        """Look at the files of TLS and AUTH every minute, until cancelled, so that the log names a broken one early."""
        if self._settings.tls_files.files or self._password is not None:
            while True:
                await trio.sleep(_WATCH)
                with suppress(MaterialError, SecretFileError):  # if it was never read: the next connection reports it
                    await self._context.get()
                    if self._password is not None:
                        await self._password.read()

    async def connect(self) -> HopConnection:
        """Open a connection to the first address that has one.

        :raises HopError: if none has.
        """
        errors = []
        for address in sorted(self._settings.addresses, key=lambda each: (each, "") in self._failed):
            try:
                connection = await self._connect(address)
            except HopError as error:
                self._failed.add(address)
                errors.append(str(error))
                continue
            self._failed.discard(address)
            self._on_hello(address, connection.client.extensions, connection.is_verified)
            return connection
        raise HopError("; ".join(errors), gone=True)

    async def _connect(self, address: HopAddress) -> HopConnection:
        """Open a connection to one address of the settings.

        A host may have several IP addresses.  If the one that took the connection does not serve us, the others are
        tried, and that one is tried last for a while.  None is begun after EHLO_Timeout: the client waits.
        """
        errors = []
        deadline = trio.current_time() + self._settings.timeouts.ehlo
        if not self._failed.ips_of(address):
            try:
                return await self._connect_to(address, address.host)
            except HopError as error:
                errors.append(str(error))
        failed = self._failed.ips_of(address)
        if failed:  # else there was no connection to any of them
            found = await self._resolve(address)
            others = [ip for ip in found if ip not in failed]
            for ip in (*others, *(() if errors else failed)):
                if errors and trio.current_time() >= deadline:
                    break
                try:
                    return await self._connect_to(address, ip)
                except HopError as error:
                    errors.append(f"{ip}: {error}" if len(found) > 1 else str(error))
        raise HopError("; ".join(errors))

    async def _resolve(self, address: HopAddress) -> list[str]:
        """Return the IP addresses of a host, in the order of the resolver; none if it fails."""
        with trio.move_on_after(self._settings.timeouts.connect), suppress(OSError):
            found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
            return list(dict.fromkeys(str(place[0]) for *_, place in found))[:_MAX_IPS]
        return []

    async def _connect_to(self, address: HopAddress, host: str) -> HopConnection:
        """Open a connection to ``host``, the host of ``address`` or one of its IP addresses."""
        timeouts = self._settings.timeouts
        transport = None
        with trio.move_on_after(timeouts.connect):
            try:
                transport = await self._open(address, host)
            except OSError as error:
                raise HopError(f"{address}: no connection: {connect_failure(error)}", gone=True) from None
        if transport is None:
            raise HopError(f"{address}: no connection in time", gone=True)
        ip = _ip_of(transport)
        connection = HopConnection(transport, address, timeouts)
        try:
            await self._prepare(connection)
        except BaseException as error:
            connection.close()
            if ip and isinstance(error, HopError):
                self._failed.add(address, ip)
            raise
        self._failed.discard(address, ip)
        return connection

    async def _open(self, address: HopAddress, host: str) -> trio.SocketStream:
        if address.path:
            return await connect_unix_socket(address.path)
        return await trio.open_tcp_stream(host, address.port)

    async def _prepare(self, connection: HopConnection) -> None:
        address = connection.address
        if address.implicit_tls:
            await self._start_tls(connection)
        reply = await connection.read()
        if reply.code != 220:
            raise HopError(f"{connection}: banner: {reply}")
        await self.introduce(connection)

    async def introduce(self, connection: HopConnection) -> None:
        """Send EHLO or LHLO, start TLS if that is due, and authenticate.  XCLIENT makes it due again.

        :raises HopError: if the hop does not accept it.
        """
        await self._hello(connection)
        address = connection.address
        if not connection.is_encrypted and address.tls != "no":
            if "STARTTLS" in connection.client.extensions:
                reply = await connection.command(b"STARTTLS\r\n")
                if reply.code != 220:
                    raise HopError(f"{connection}: STARTTLS: {reply}")
                await self._start_tls(connection)
                await self._hello(connection)
            elif address.tls == "required":
                raise HopError(f"{connection}: TLS is required, and the hop does not offer STARTTLS")
        if self._password is not None:
            await self._authenticate(connection, self._password)

    async def _hello(self, connection: HopConnection) -> None:
        name = self._settings.ehlo_hostname or own_name()
        reply = await connection.command(hello_command(connection.client.hello_verb(), name))
        if reply.code != 250:
            raise HopError(f"{connection}: {connection.client.hello_verb()}: {reply}")

    async def _start_tls(self, connection: HopConnection) -> None:
        address, settings = connection.address, self._settings
        try:
            context = await self._context.get()
            if not address.implicit_tls:
                connection.client.start_tls()
            client = TLSClient(connection.transport, context, _server_name(address))
            connection.stream = client
            with trio.move_on_after(settings.timeouts.connect) as scope:
                await client.handshake()
            if scope.cancelled_caught:
                raise HopError(f"{connection}: TLS: no handshake in time", gone=True)
            check_server_identity(client, settings.tls_verify, address.tls_name, settings.tls_fingerprints)
        except (MaterialError, HandshakeError, ReplyError, ServerIdentityError) as error:
            raise HopError(f"{connection}: TLS: {error}") from None
        except trio.BrokenResourceError as error:
            raise HopError(f"{connection}: TLS: the connection broke: {error.__cause__ or error}", gone=True) from None
        connection.is_encrypted = True
        connection.is_verified = settings.tls_verify == "host" or bool(settings.tls_fingerprints)

    async def _authenticate(self, connection: HopConnection, file: SecretFile) -> None:
        if not connection.is_encrypted:
            raise HopError(f"{connection}: AUTH is never used without TLS")
        try:
            password, *_ = await file.read()
            offered = connection.client.extensions.parameters("AUTH")
            sasl = SaslClient(offered, self._settings.auth_user, password)
            reply = await connection.command(auth_command(sasl.mechanism, sasl.initial))
            for _ in range(_MAX_STEPS):
                if reply.code != 334:
                    break
                response = await trio.to_thread.run_sync(sasl.respond, _challenge(reply))
                reply = await connection.response(auth_response(response))
            if reply.code != 235:
                raise HopError(f"{connection}: AUTH: {reply}")
            sasl.check_success()
        except (SecretFileError, SaslClientError) as error:
            raise HopError(f"{connection}: AUTH: {error}") from None


class _RecentFailures:
    """What failed in the last minute: addresses of the settings, and with ``ip`` IP addresses of their hosts."""

    def __init__(self) -> None:
        self._at: dict[tuple[HopAddress, str], float] = {}

    def __contains__(self, key: tuple[HopAddress, str]) -> bool:
        at = self._at.get(key)
        return at is not None and trio.current_time() - at < _AVOIDED

    def ips_of(self, address: HopAddress) -> list[str]:
        """Return the IP addresses of a host that failed."""
        return [ip for each, ip in self._at if each == address and ip and (each, ip) in self]

    def add(self, address: HopAddress, ip: str = "") -> None:
        """Record a failure, and forget those of more than a minute ago."""
        self._at = {key: at for key, at in self._at.items() if key in self}
        self._at[address, ip] = trio.current_time()

    def discard(self, address: HopAddress, ip: str = "") -> None:
        """Forget a failure."""
        self._at.pop((address, ip), None)


def _ip_of(transport: trio.SocketStream) -> str:
    """Return the IP address at the other end; ``""`` for a Unix socket, and if the connection has ended."""
    try:
        name = transport.socket.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def _challenge(reply: ReceivedReply) -> bytes:
    try:
        return base64.b64decode(reply.lines[0], validate=True)
    except (binascii.Error, ValueError):
        raise SaslClientError("the server's challenge is not base64") from None


def _server_name(address: HopAddress) -> str | None:
    """Return the name for SNI (RFC 6066, section 3): no address."""
    name = address.tls_name.rstrip(".")
    return name if name and name.isascii() and not name.replace(".", "").isdigit() and ":" not in name else None
