"""The connection to Dovecot's authentication service (Auth_Service), which all sessions of a process share.

An exchange waits for its client between two requests, so a client decides how long it lasts.  Therefore exchanges have
no connection of their own: each has a number on the one connection.  No task reads it.  Of the sessions that wait for
an answer one reads, for all of them; if that one leaves, another one reads on.
"""

import logging
import select
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from triosmtp.auth import AuthServiceError, DovecotCodec, DovecotError, ServiceAnswer
from triosmtp.policy import Session
from triosmtp.policy_service.circuit_breaker import CircuitBreaker, NoAnswerError
from triosmtp.policy_service.hub_limits import HubLimits
from triosmtp.sockets.unix_client import connect_unix_socket

__all__ = ["AuthRequest", "AuthService", "request_attributes"]

_log = logging.getLogger("triosmtp.auth")

ANSWER_SECONDS: Final = 30.0
"""The time for an answer.  Dovecot lets an address that has failed often wait for up to 15 s."""
_CONNECT_SECONDS: Final = 5.0
_REFRESH_SECONDS: Final = 1.0
"""The time that a session may wait at its beginning to find out what the service offers, and between two trials."""
_READ: Final = 4096


class _Connection:
    """One connection, from the end of its handshake."""

    def __init__(self, stream: trio.SocketStream, codec: DovecotCodec) -> None:
        self.codec = codec
        self._stream = stream
        self._answers: dict[int, ServiceAnswer] = {}  # of requests that a session waits for
        self._waiting: set[int] = set()
        self._cancelled: list[int] = []  # sent with the next request; never more than there were requests
        self._parked = trio.lowlevel.ParkingLot()
        self._sending = trio.Lock()
        self._is_reading = False
        self.error = ""
        """Why it cannot be used any more."""

    @classmethod
    async def open(cls, path: Path) -> "_Connection":
        """Connect, and wait for the handshake.

        :raises OSError: if there is no connection.
        :raises DovecotError: if there is no handshake of the protocol.
        """
        stream = await connect_unix_socket(path)
        codec = DovecotCodec()
        try:
            await stream.send_all(codec.greeting())
            while not codec.is_ready:
                data = await stream.receive_some(_READ)
                if not data:
                    raise DovecotError("the connection ended within the handshake")
                codec.receive_data(data)
        except trio.BrokenResourceError as error:
            stream.socket.close()
            raise DovecotError(f"the connection ended within the handshake: {error.__cause__}") from None
        except BaseException:
            stream.socket.close()
            raise
        return cls(stream, codec)

    def has_ended(self) -> bool:
        """Return whether it cannot be used any more."""
        if not self.error:
            poll = select.poll()
            poll.register(self._stream.socket.fileno(), select.POLLRDHUP)
            if poll.poll(0):
                self.close("the service has ended the connection")
        return bool(self.error)

    def cancel(self, number: int) -> None:
        """Let the service forget a request, when the next one is sent."""
        self._cancelled.append(number)

    async def ask(self, number: int, line: bytes) -> ServiceAnswer:
        """Send the line of a request, and return the answer to it.

        :raises DovecotError: if the connection ends, or the service violates the protocol.
        """
        self._waiting.add(number)
        try:
            await self._send(line)
            while number not in self._answers:
                if self.error:
                    raise DovecotError(self.error)
                if self._is_reading:
                    await self._parked.park()
                else:
                    await self._read()
            return self._answers[number]
        finally:
            self._waiting.discard(number)
            self._answers.pop(number, None)

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            if self.error:
                raise DovecotError(self.error)
            cancelled, self._cancelled = self._cancelled, []
            sent = False
            try:
                await self._stream.send_all(b"".join(map(self.codec.cancel, cancelled)) + line)
                sent = True
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise DovecotError(f"the connection broke: {error.__cause__ or error}") from None
            finally:
                if not sent:  # a part of the line may have been
                    self.close("a request could not be sent")

    async def _read(self) -> None:
        self._is_reading = True
        try:
            data = await self._stream.receive_some(_READ)
            if not data:
                raise DovecotError("the service has ended the connection")
            for number, answer in self.codec.receive_data(data):
                if number in self._waiting:
                    self._answers[number] = answer
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.close(f"the connection broke: {error.__cause__ or error}")
            raise DovecotError(self.error) from None
        except DovecotError as error:
            self.close(str(error))
            raise
        finally:
            self._is_reading = False
            self._parked.unpark_all()  # those who have an answer, and the one that reads on

    def close(self, reason: str) -> None:
        """Close it; every request on it fails."""
        self.error = self.error or reason
        self._stream.socket.close()
        self._parked.unpark_all()


class AuthRequest:
    """One exchange that the service runs."""

    def __init__(self, service: "AuthService", mechanism: str, attributes: Iterable[str]) -> None:
        self._service = service
        self._mechanism = mechanism
        self._attributes = tuple(attributes)
        self._connection: _Connection | None = None
        self._number = 0

    async def ask(self, data: bytes | None) -> ServiceAnswer:
        """Pass on octets of the client, and return the answer of the service.

        :raises AuthServiceError: if there is none.
        """
        try:
            return await self._service.attempt(self._ask, data)
        except DovecotError as error:
            raise AuthServiceError(f"Auth_Service: {error}") from None

    async def _ask(self, data: bytes | None) -> ServiceAnswer:
        connection = self._connection
        if connection is None:
            connection = await self._service.connect()
            self._service.check(self._mechanism)
            self._number, line = connection.codec.begin(self._mechanism, self._attributes, data)
            self._connection = connection
        else:
            line = connection.codec.proceed(self._number, data or b"")
        return await connection.ask(self._number, line)

    def abandon(self) -> None:
        """Let the service forget the exchange."""
        if self._connection is not None:
            self._connection.cancel(self._number)


class AuthService:
    """Dovecot's authentication service at one Unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._breaker = CircuitBreaker(HubLimits().breaker_timeouts, HubLimits().breaker_seconds)
        self._connection: _Connection | None = None
        self._connecting = trio.Lock()
        self._refreshed = float("-inf")
        self._known: Mapping[str, frozenset[str]] | None = None
        self._is_away = False

    def offers(self, name: str) -> bool:
        """Return whether the service has a mechanism, as far as that is known.

        Mechanisms that authenticate nobody, or that the service asks not to offer, are left out.  Before the service
        was ever reached it counts as having all of them: then an attempt is a temporary failure.
        """
        if self._known is None:
            return True
        flags = self._known.get(name)
        return flags is not None and flags.isdisjoint({"anonymous", "private", "channel-binding"})

    def is_readable(self, name: str) -> bool:
        """Return whether the service says that a mechanism sends a password in clear text."""
        return self._known is not None and "plaintext" in self._known.get(name, ())

    async def refresh(self) -> None:
        """Find out what the service offers, unless it is connected.  Once a second, one session waits for that."""
        now = trio.current_time()
        if (self._connection is not None and not self._connection.has_ended()) or self._connecting.locked():
            return
        if now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            with suppress(DovecotError), trio.move_on_after(_REFRESH_SECONDS):
                await self.connect()

    async def attempt(
        self, ask: Callable[[bytes | None], Awaitable[ServiceAnswer]], data: bytes | None
    ) -> ServiceAnswer:
        """Ask within the time limit, unless the circuit breaker is open.

        :raises AuthServiceError: if there was no answer in time.
        """
        began = trio.current_time()
        try:
            self._breaker.admit(began)
        except NoAnswerError as error:
            raise AuthServiceError(f"Auth_Service: {error}") from None
        with trio.move_on_after(ANSWER_SECONDS):
            answer = await ask(data)
            self._breaker.record_answer()
            return answer
        self._breaker.record_timeout(began)
        raise AuthServiceError(f"Auth_Service: no answer within {ANSWER_SECONDS:g} s")

    async def connect(self) -> _Connection:
        """Return the connection; make it, if there is none.

        :raises DovecotError: if there is none, or no handshake of the protocol.
        """
        async with self._connecting:
            connection = self._connection
            if connection is None or connection.has_ended():
                connection = self._connection = await self._open()
            return connection

    async def _open(self) -> _Connection:
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                connection = await _Connection.open(self.path)
        except (OSError, DovecotError, trio.TooSlowError) as error:
            reason = str(error) or f"no handshake within {_CONNECT_SECONDS:g} s"
            if not self._is_away:
                self._is_away = True
                _log.warning('Auth_Service "dovecot:%s": %s: AUTH is answered 454', self.path, reason)
            raise DovecotError(reason) from None
        if self._is_away:
            self._is_away = False
            _log.info('Auth_Service "dovecot:%s": connected', self.path)
        self._known = connection.codec.mechanisms
        return connection

    def check(self, mechanism: str) -> None:
        """Make sure that the service has a mechanism: one that is unknown to it would end the connection.

        :raises DovecotError: if it has not.
        """
        if not self.offers(mechanism):
            raise DovecotError(f"the service does not offer {mechanism}")

    def close(self) -> None:
        """Close the connection, when no session needs it any more."""
        if self._connection is not None:
            self._connection.close("the configuration is not in force any more")


def request_attributes(session: Session, identity: str | None) -> Iterator[str]:
    """Yield what Dovecot receives about a client; ``identity`` is what its verified certificate stands for."""
    yield "service=smtp"
    yield "nologin"  # nobody will ask for this login
    yield f"session={session.id}"
    for place, letter in ((session.local, "l"), (session.peer, "r")):
        host, colon, port = place.rpartition(":")
        if colon:
            yield f"{letter}ip={host.strip('[]')}"
            yield f"{letter}port={port}"
    tls = session.tls
    if tls is None:
        return
    yield "secured=tls"
    yield f"tls_protocol={tls.protocol}"
    yield f"tls_cipher={tls.cipher}"
    yield f"tls_cipher_bits={tls.cipher_usebits}"
    if tls.sni is not None:
        yield f"local_name={tls.sni}"
    if tls.verified:
        yield "valid-client-cert"
        if identity is not None:
            yield f"cert_username={identity}"
