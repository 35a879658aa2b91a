"""The driver of one session: it takes a connection from its first byte to its last.

Bytes go from the stream into the sans-io connection, its events to the conversation, replies back.  A pipelined group
costs one read and one write, and no read has a cancel scope or a deadline of its own (see ``patience.py``).
"""

import logging
import socket
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from triosmtp.config import Listen, Settings
from triosmtp.errors import HandshakeError
from triosmtp.event import (
    Connected,
    ConnectionRefused,
    Disconnected,
    ServerCertificatePresented,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.limits.timeouts import Patience
from triosmtp.policy import Session
from triosmtp.server.profile import Profile
from triosmtp.server.service import Service, limiter_key
from triosmtp.server.session.handlers import Conversation
from triosmtp.server.session.refusal import Refusal
from triosmtp.smtp import NEED_DATA, PAUSED, Reply, State, SwitchToTLS
from triosmtp.sockets.listener import Peer, peer_from_sockaddr
from triosmtp.sockets.transport import SocketTransport
from triosmtp.tls import (
    ServerContext,
    TLSStream,
    channel_binding,
)
from triosmtp.tls.handshake import handshake
from triosmtp.variables import TLSInfo, Variables

__all__ = ["SessionDriver", "session_of"]

_log = logging.getLogger("triosmtp.server")

_COMMAND_READ: Final = 32768
_BODY_READ: Final = 262144
_ALERT_SECONDS: Final = 1.0
_FAREWELL: Final = 2.0
"""Seconds that a last reply and a close_notify may take."""


_EARLY: Final = Reply(554, "You spoke before the banner", "5.5.1")
_SHUTDOWN: Final = Reply(421, "Service shutting down", "4.3.2")
_FAILED: Final = Reply(421, "Local error in processing", "4.3.0")
_EXHAUSTED: Final = {
    "idle": "Idle for too long",
    "slow": "The message arrives too slowly",
    "overlong": "The connection has lasted too long",
}
"""What is said where our patience is at its end."""


class SessionDriver:
    """Runs one session."""

    __slots__ = (
        "_closing",
        "_conversation",
        "_detail",
        "_encrypted",
        "_greeting_tls",
        "_leaving",
        "_listen",
        "_profile",
        "_reading",
        "_renegotiable",
        "_scope",
        "_service",
        "_since",
        "_stream",
        "_transport",
        "context",
        "generation",
        "patience",
        "session",
        "started",
    )

    def __init__(
        self, service: Service, listen: Listen, profile: Profile, transport: trio.abc.Stream, peer: Peer, local: str
    ) -> None:
        self._service = service
        self._listen = listen
        self._profile = profile
        self._transport = transport
        self._stream: trio.abc.Stream = transport  # what is read and written: this, or …
        self._encrypted: TLSStream[trio.abc.Stream] | None = None
        self.started = trio.current_time()
        self.generation = service.generation
        self.context: ServerContext | None = None
        """What its handshake began with."""
        self._reading = False
        self._closing = False
        self._leaving = False  # whether the session was cancelled from outside
        self._greeting_tls = False
        self._renegotiable = False
        self._detail = ""  # says more of how it ended
        self._scope = trio.CancelScope()
        self._since = self.started  # when the peer's turn began
        self.patience = Patience(
            profile.settings.idle_time,
            self._scope.cancel,
            min_rate=profile.settings.min_data_rate,
            session_time=profile.settings.max_session_time,
            started=self.started,
        )
        self.session = Session(
            id=service.new_session_id(),
            listener=listen.name,
            peer=peer.text,
            peer_address=peer.address,
            local=local,
            variables=Variables(peer.announced),
        )
        self._conversation = Conversation(service, listen, profile, self.session)
        self._conversation.spokesman.resettle = self._resettle
        if isinstance(transport, SocketTransport):
            self._conversation.authentication.is_gone = transport.is_gone

    async def run(self) -> None:
        """Serve the session to its end.  Raises nothing but cancellation."""
        session, conversation = self.session, self._conversation
        self._service.running.add(self)
        variables = {**session.variables, **self._profile.settings.context}
        self._service.emit(Connected(session=session.info, variables=variables))
        try:
            with self._scope:
                await self._live()
            if self._scope.cancelled_caught:
                await self._say_goodbye()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            conversation.end = "peer_closed"
            if self._encrypted is not None:
                await self._end_broken_tls(self._encrypted)
        except trio.Cancelled:
            conversation.end = "cancelled"
            if conversation.out or self._unsent:  # a message may have been accepted, and its sender would send it again
                await self._send_at_last(_SHUTDOWN)
            raise
        except Exception:  # noqa: BLE001 - one session's failure must not become the server's
            _log.exception("session %s failed", session.id)
            await self._send_at_last(_FAILED)
        finally:
            self._service.running.discard(self)
            self._service.leave_handshake(session.id)
            if conversation.transaction is not None:
                conversation.transaction.close()
            if self._encrypted is not None:
                self._encrypted.release()
            try:
                await self._close_transport()
            finally:
                self._service.emit(
                    Disconnected(
                        session=session.info,
                        reason=conversation.end,
                        seconds=trio.current_time() - self.started,
                        messages=conversation.messages,
                        commands=conversation.connection.commands,
                        detail=self._detail,
                    )
                )

    def _resettle(self, profile: Profile) -> None:
        """A trusted peer speaks for another one: what holds for that."""
        self._profile = profile
        settings = profile.settings
        self.patience.change(settings.idle_time, min_rate=settings.min_data_rate)

    @property
    def state(self) -> str:
        """The state of the dialogue, in lower case (see :mod:`triosmtp.smtp.command`)."""
        return self._conversation.connection.state.name.lower()

    @property
    def messages(self) -> int:
        """How many messages it began."""
        return self._conversation.messages

    def drain(self) -> None:
        """End this session with 421 4.3.2 as soon as no transaction is under way."""
        if self._reading and self._conversation.transaction is None:
            self._leave()

    def expire(self) -> None:
        """End this session with 421 4.3.2 now; one in its handshake has no words for that."""
        if not self._greeting_tls:
            self._leave()

    def _leave(self) -> None:
        self._leaving = True
        self._scope.cancel()

    def close(self) -> None:
        """End this session with 421 4.3.2 as soon as no transaction is under way: somebody asked for it."""
        self._closing = True
        self.drain()

    async def _live(self) -> None:
        conversation = self._conversation
        connection = conversation.connection
        if not await self._open():
            return
        fresh = True
        while not connection.closed:
            event = connection.next_event()
            if event is NEED_DATA:
                fresh = await self._turn(fresh=fresh)
            elif isinstance(event, SwitchToTLS):
                if not await self._switch():
                    return
            else:
                assert event is not PAUSED, "every event was answered"
                await conversation.answer(event)
                fresh = True
                if len(conversation.out) >= self._service.replies_per_turn:
                    await self._flush()
                    await self._service.yield_turn()
        await self._finish()

    async def _turn(self, *, fresh: bool) -> bool:
        """Write what is due, then read: the one place where a session waits for its peer.

        It is not ``fresh`` where what came last was no whole command: the peer's time for that runs on.  Gives whether
        what came is fresh whatever it is: a part of a message.
        """
        conversation, patience = self._conversation, self.patience
        connection = conversation.connection
        if fresh:
            self._since = trio.current_time()
        patience.start(self._since)
        in_body = connection.in_body
        if in_body and connection.body_refused and conversation.transaction is not None:
            conversation.transaction.close()  # what is still to come of it is thrown away
        patience.receiving = connection.in_message and conversation.messages + 1
        if conversation.out:
            await self._send()
        if (self._service.draining or self._closing) and conversation.transaction is None:
            self._scope.cancel()
        self._reading = patience.listening = True
        size = _BODY_READ if in_body else _COMMAND_READ
        data = await self._stream.receive_some(size)
        if self._leaving or patience.exhausted is not None:  # a scope that is asked reads the clock
            # It came as we gave up waiting.  To begin with it now would lose its reply, and within TLS the 421 as well.
            await trio.lowlevel.checkpoint()
        self._reading = False
        patience.stop()
        patience.octets += len(data)
        if self._renegotiable:
            await self._look_for_renegotiation()
        connection.receive_data(data)
        return in_body

    def _established(self, tls: TLSInfo) -> None:
        """Keep what a handshake established, and tell of it what it says of the client."""
        session = self.session
        session.connection_tls = tls
        tls = session.tls or tls
        self._service.emit(TLSEstablished(session=session.info, tls=tls))
        if tls.server_purpose:
            self._service.emit(ServerCertificatePresented(session=session.info, tls=tls))

    async def _look_for_renegotiation(self) -> None:
        """Where the client has shown itself anew, forget what its first handshake gave it before it is listened to."""
        assert self._encrypted is not None
        tls = self._encrypted.renegotiated()
        if tls is None:
            return
        self._established(tls)
        self._conversation.forget_tls()
        refusal = await self._conversation.tls_established()
        if refusal is not None:
            self._conversation.refuse_from_now_on(refusal)

    async def _flush(self) -> None:
        """Write what is due where no reading follows."""
        if self._conversation.out or self._unsent:
            self.patience.start(trio.current_time())
            await self._send()
            self.patience.stop()

    async def _send(self) -> None:
        # The last point at which a cancellation leaves the replies in ``out``.  From here on the transport keeps them.
        await trio.lowlevel.checkpoint_if_cancelled()
        out = self._conversation.out
        data = b"".join(out)
        out.clear()
        stream = self._stream
        if not isinstance(stream, SocketTransport | TLSStream):
            await stream.send_all(data)
        elif not stream.start_send(data):
            await stream.finish_send()

    async def _send_at_last(self, reply: Reply) -> None:
        """Send what was decided and not sent yet, and ``reply``, though the session is cut off."""
        self._say(reply)
        with trio.move_on_after(_FAREWELL, shield=True), suppress(Exception):  # why it ends is known already
            await self._part()

    def _say(self, last: Reply) -> None:
        """Gather our last words, unless TLS is due and not there yet: plaintext would look like a broken handshake."""
        conversation = self._conversation
        due = self._profile.settings.use_ssl or conversation.connection.state is State.SWITCHING
        if self._encrypted is not None or not due:
            conversation.out.append(last.render(enhanced=self._profile.rules.enhanced_status_codes))

    @property
    def _unsent(self) -> bool:
        """Whether the transport holds the rest of what was being sent when that was cancelled."""
        return isinstance(self._stream, SocketTransport | TLSStream) and self._stream.unsent

    async def _open(self) -> bool:
        """Policy at connect, the handshake under Use_SSL, the banner.  Gives False where the session is over."""
        conversation = self._conversation
        refusal, phase = await conversation.connect(), "connect"
        if self._profile.settings.use_ssl:
            if not await self._admit_handshake() or not await self._handshake():
                return False
            conversation.connection.tls_started()
            refused = await conversation.tls_established()
            if refusal is None:
                refusal, phase = refused, "starttls"
        elif refusal is None and self._profile.settings.banner_delay:
            refusal = await self._wait_for_early_talkers(self._profile.settings.banner_delay)
        conversation.greet(refusal, phase)
        return True

    async def _wait_for_early_talkers(self, seconds: int) -> Refusal | None:
        """Whoever speaks before the banner does not care for what we say (RFC 5321, section 3.1)."""
        with trio.move_on_after(seconds):
            if await self._stream.receive_some(1):
                return Refusal(_EARLY, "protocol", "spoke before the banner")
        return None

    async def _switch(self) -> bool:
        """STARTTLS was accepted: the 220, the handshake, and a session that knows nothing of what came before."""
        await self._flush()
        self._conversation.forget()
        if not await self._handshake():
            return False
        if isinstance(self._transport, SocketTransport):
            # In TLS 1.3 the client has the last word of the handshake, and the next one too.  With Nagle's algorithm
            # it keeps that back until the former was acknowledged.
            self._transport.acknowledge()
        self._conversation.connection.tls_started()
        refusal = await self._conversation.tls_established()
        if refusal is not None:
            self._conversation.refuse_from_now_on(refusal)
        return True

    async def _admit_handshake(self) -> bool:
        """Ask for a handshake where no reply can be given: TLS from the first byte.  False: the session is over."""
        session = self.session
        reached = await self._service.admit_handshake(session, self._profile.settings)
        if reached:
            self._conversation.end = "refused"
            self._service.emit(ConnectionRefused(peer=session.peer, listener=session.listener, reason=reached))
        return not reached

    async def _handshake(self) -> bool:
        """Bring TLS up on the stream.  Gives False where that failed: the session is over, never back to plaintext."""
        session, profile = self.session, self._profile
        assert profile.tls is not None, "a configuration without a certificate offers no TLS"
        context = self.context = self._service.context(self.generation, profile.tls)
        limit = profile.settings.tls_handshake_timeout
        place = partial(self._service.flights.place, limiter_key(session), self._conversation.authentication.is_gone)
        self._greeting_tls = True
        try:
            self._encrypted, tls = await handshake(context, self._transport, seconds=limit, place=place)
            self._stream = self._encrypted
            self._conversation.authentication.bindings = partial(channel_binding, self._encrypted)
            self._renegotiable = profile.settings.tls_allow_renegotiation
            self._established(tls)
            return True
        except HandshakeError as error:
            reason, detail = error.reason, error.detail
        finally:
            self._greeting_tls = False
            self._service.leave_handshake(session.id)
        self._conversation.end = "tls_failed"
        self._service.emit(TLSFailed(session=session.info, reason=reason, detail=detail))
        if reason not in {"peer_closed", "timed_out"}:
            self._greeting_tls = True  # there are no words for a drain
            await self._linger()
        return False

    async def _say_goodbye(self) -> None:
        """The session's own scope has fired: idle too long, or draining."""
        if self._service.draining:
            end, reply = "drain", _SHUTDOWN
        elif self._closing:
            end, reply = "closed", Reply(421, "Closing the connection", "4.3.2")
        else:
            end = self.patience.exhausted or "idle"
            reply = Reply(421, _EXHAUSTED[end], "4.4.2")
        self._conversation.end = end
        self._say(reply)
        # A stream whose sending was cut off in the middle may be broken already: idle is still why the session ends.
        with trio.move_on_after(_FAREWELL), suppress(trio.BrokenResourceError):
            await self._part()
            await self._linger()

    async def _end_broken_tls(self, stream: TLSStream[trio.abc.Stream]) -> None:
        """If it is TLS that broke, and not the connection below it, the peer hears why (RFC 8446, section 6.2)."""
        broken = stream.broken_by()
        if broken is not None:
            self._conversation.end, self._detail = broken
            with trio.move_on_after(_ALERT_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.send_alert()
            await self._linger()

    async def _linger(self) -> None:
        """Let the peer read our last words: it may be in the middle of a pipelined group, or of a body."""
        self.patience.stop()
        if isinstance(self._transport, SocketTransport):
            await self._transport.linger(_FAREWELL)

    async def _close_transport(self) -> None:
        if isinstance(self._transport, SocketTransport):
            self._transport.close()  # what was sent is the kernel's to deliver; there is nothing to wait for
        else:
            await trio.aclose_forcefully(self._transport)

    async def _finish(self) -> None:
        """End the dialogue in good order."""
        await self._part()
        if self._conversation.end not in {"quit", "peer_closed"}:
            await self._linger()

    async def _part(self) -> None:
        """Write what is due, and our close_notify behind it in the same packet.

        The peer's close_notify is not waited for: many never send one.  A TLS stream whose sending was cancelled takes
        nothing more, but its engine does, and the transport still has the rest of what was encrypted.
        """
        if self._encrypted is None:
            await self._flush()
            return
        self.patience.start(trio.current_time())
        if self._renegotiable and self._conversation.out and not self._scope.cancel_called:
            await self._send()  # if the client has just begun to negotiate anew, only the stream can wait for it
        await trio.lowlevel.checkpoint_if_cancelled()
        last = b"".join(self._conversation.out)
        self._conversation.out.clear()
        await self._encrypted.send_close_notify(last)
        if self._unsent:  # its close_notify is a part of that
            await self._transport.send_all(b"")


def session_of(
    service: Service, listen: Listen, settings: Settings, sock: socket.socket, peer: Peer, local: str = ""
) -> SessionDriver:
    """Give the session of a connection that was counted in; ``local`` is its own address, where that is known."""
    profile = service.profiles.of(listen, settings)
    local = peer.local or local or peer_from_sockaddr(sock.getsockname()).text
    return SessionDriver(service, listen, profile, SocketTransport(sock), peer, local)
