"""One SMTP session: it owns the stream, the time-outs and the output.

Bytes go from the stream into the sans-io connection, its events to the handlers, replies back.  A pipelined group costs
one read and one write, and no read has a cancel scope or a deadline of its own (see ``limits/timeouts.py``).  Work
after a rare event is behind one flag, ``attention``, which the loop checks before and after each read.
"""

import logging
from contextlib import AbstractAsyncContextManager, suppress
from math import inf
from typing import Final

import trio

from triosmtp.config import Listen
from triosmtp.errors import HandshakeError
from triosmtp.event import (
    Connected,
    ConnectionRefused,
    Disconnected,
    ServerCertificatePresented,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.limits.timeouts import SessionTimeouts
from triosmtp.policy import Session
from triosmtp.server.admission import AdmissionTicket
from triosmtp.server.generation import Generation
from triosmtp.server.profile import Profile
from triosmtp.server.reusable_scope import ReusableScope
from triosmtp.server.service import Service, fair_queue_key
from triosmtp.server.session import auth
from triosmtp.server.session.handlers import (
    HANDLERS,
    connect,
    end_of_dialogue,
    establish_tls,
    greet,
    refuse_from_now_on,
)
from triosmtp.server.session.refusal import Refusal
from triosmtp.server.session.session_stream import SessionStream
from triosmtp.server.session.state import SessionEnd, SessionState
from triosmtp.smtp import NEED_DATA, Reply, State
from triosmtp.sockets.peer import Peer
from triosmtp.tls import ServerContext
from triosmtp.tls.handshake import HandshakeTimer
from triosmtp.variables import TLSInfo, Variables

__all__ = ["SMTPSession"]

_log = logging.getLogger("triosmtp.server")

_wait_readable: Final = trio.lowlevel.wait_readable  # found once
_COMMAND_READ: Final = 32768
_BODY_READ: Final = 262144
_CLOSE_SECONDS: Final = 2.0
"""How long a last reply and a close_notify may take."""

_EARLY: Final = Reply(554, "You spoke before the banner", "5.5.1")
_SHUTDOWN: Final = Reply(421, "Service shutting down", "4.3.2")
_CLOSING: Final = Reply(421, "Closing the connection", "4.3.2")
_FAILED: Final = Reply(421, "Local error in processing", "4.3.0")
_EXPIRED: Final = {
    "idle": Reply(421, "Idle for too long", "4.4.2"),
    "slow": Reply(421, "The message arrives too slowly", "4.4.2"),
    "max_session_time": Reply(421, "The connection has lasted too long", "4.4.2"),
}
_SILENT_ENDS: Final = {SessionEnd.QUIT, SessionEnd.PEER_CLOSED}
"""Ends after which the peer sends nothing more."""


class SMTPSession:
    """One session, from its first byte to its last.  :meth:`run` is its task."""

    # Without __slots__: most sessions change few of these defaults.
    context: ServerContext | None = None
    """The TLS context that its handshake began with."""
    _scope: ReusableScope | trio.CancelScope | None = None  # as long as it runs
    _closing = False  # whether somebody asked for the end of this session
    _leaving = False  # whether the session was cancelled from outside
    _handshaking = False  # then no reply can be sent
    _timer: HandshakeTimer | None = None
    """The timer of the handshake that is under way, or that was too late."""
    _renegotiable = False
    _detail = ""  # of the end

    def __init__(
        self, service: Service, listen: Listen, profile: Profile, transport: trio.abc.Stream, peer: Peer, local: str
    ) -> None:
        self._stream = SessionStream(transport)
        self.started = service.now()
        """On Trio's clock."""
        settings = profile.settings
        self.timeouts = SessionTimeouts(
            settings.idle_time,
            min_rate=settings.min_data_rate,
            max_session_time=settings.max_session_time,
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
        self._state = SessionState(service, listen, profile, self.session, self._stream.is_gone)

    # What the server sees of it

    @property
    def generation(self) -> Generation:
        """The configuration that it began with."""
        return self._state.generation

    @property
    def state(self) -> str:
        """The state of the dialogue, in lower case (see :mod:`triosmtp.smtp.command`)."""
        return self._state.connection.state.name.lower()

    @property
    def messages(self) -> int:
        """How many messages it began."""
        return self._state.messages

    def drain(self) -> None:
        """End this session with 421 4.3.2 as soon as no transaction is under way."""
        self._state.attention = True
        if self.timeouts.since != inf and not self._stream.unsent and self._state.transaction is None:  # it is reading
            self._leave()

    def close(self) -> None:
        """End this session with 421 4.3.2 as soon as no transaction is under way: somebody asked for it."""
        self._closing = True
        self.drain()

    def expire(self) -> None:
        """End this session with 421 4.3.2 now; in a handshake no reply can be sent."""
        if not self._handshaking:
            self._leave()

    def check_timeouts(self, now: float) -> None:
        """End this session if it has waited for its peer too long."""
        state = self._state
        if self._timer is not None:
            if now >= self._timer.deadline:
                self._leave()
            return
        message = state.messages + 1 if state.connection.in_message else 0
        if self.timeouts.check(now, message, sending=self._stream.unsent) is not None:
            self._leave()

    def _leave(self) -> None:
        self._leaving = self._state.attention = True
        if self._scope is not None:
            self._scope.cancel()

    # The way through a session

    async def run(self, ticket: AdmissionTicket | None = None, scope: ReusableScope | None = None) -> None:
        """Serve the session to its end, and close ``ticket`` then.  Only cancellation is raised.

        ``scope`` is what ends it early; by default, it makes one.
        """
        ending = self._scope = scope or trio.CancelScope()
        service = self._state.service
        service.running.add(self)
        if Connected in service.observers.wanted:
            variables = {**self.session.variables.snapshot(), **self._state.profile.settings.context}
            service.emit(Connected(session=self.session.info, variables=variables))
        end = SessionEnd.CANCELLED
        try:
            with ending:
                opened = await self._open()
                end = opened or await self._converse()
                if opened is None and end is not SessionEnd.TLS_FAILED:
                    await self._finish()
                    if end not in _SILENT_ENDS:
                        await self._linger()
            if ending.cancelled_caught:
                end = await self._say_goodbye()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            end = await self._end_broken()
        except trio.Cancelled:
            end = SessionEnd.CANCELLED
            await self._send_at_last(_SHUTDOWN)  # behind the replies that are due: a message may have been accepted
            raise
        except Exception:  # noqa: BLE001 - one session's failure must not become the server's
            end = SessionEnd.FAILED
            _log.exception("session %s failed", self.session.id)
            await self._send_at_last(_FAILED)
        finally:
            self._scope = None  # which may serve another session from now on
            try:
                await self._close(end)
            finally:
                if ticket is not None:
                    ticket.close()

    async def _open(self) -> SessionEnd | None:
        """Ask policy at connect, do the handshake under Use_SSL, begin the dialogue; return the end, if it is that."""
        state, settings = self._state, self._state.profile.settings
        refusal, phase = await connect(state), "connect"
        if settings.use_ssl:
            state.admitted_handshake = True
            reached = await state.service.limits.admit_handshake(self.session, settings)
            if reached:  # no reply can be given: TLS is due from the first byte
                session = self.session
                refused = ConnectionRefused(peer=session.peer, listener=session.listener, reason=reached.value)
                state.service.emit(refused)
                return SessionEnd.REFUSED
            if not await self._handshake():
                return SessionEnd.TLS_FAILED
            state.connection.tls_started()
            refused_tls = await establish_tls(state)
            if refusal is None:
                refusal, phase = refused_tls, "starttls"
        elif refusal is None and settings.banner_delay:
            refusal = await self._wait_for_early_talkers(settings.banner_delay)
        self._stream.out.append(greet(state, refusal, phase))
        return None

    async def _wait_for_early_talkers(self, seconds: int) -> Refusal | None:
        """Refuse a client that speaks before the banner: it ignores what the server says (RFC 5321, section 3.1)."""
        with trio.move_on_after(seconds):
            if await self._stream.receive(1):
                return Refusal(_EARLY, "protocol", "spoke before the banner")
        return None

    async def _converse(self) -> SessionEnd:  # noqa: C901, PLR0912, PLR0915 - a helper costs more than its work
        """Exchange commands and replies until the dialogue is over; return its end."""
        state, timeouts, stream = self._state, self.timeouts, self._stream
        out, connection, service = stream.out, state.connection, state.service
        now, fd, engine = service.now, stream.fd, stream.engine
        kind: type | None = NEED_DATA.__class__  # of the last event; None if the next read is for a command
        data: bytes | None = None
        following = connection.next_event()
        while True:
            while following is not NEED_DATA:
                if out and len(out) >= service.replies_per_turn:  # the client has pipelined more than its turn
                    await self._flush()
                    await service.yield_turn()
                kind = following.__class__
                answer = HANDLERS[kind](state, following)
                if not isinstance(answer, bytes):
                    if answer is None:
                        if not await self._switch():
                            return SessionEnd.TLS_FAILED
                        fd, engine = stream.fd, stream.engine
                        following = connection.next_event()
                        continue
                    timeouts.since = inf
                    answer = await answer
                if connection.needs_data:
                    reply, following = answer, NEED_DATA
                    break
                if answer:
                    out.append(answer)
                following = connection.next_event()
            else:
                reply = b""
                if connection.closed:
                    return end_of_dialogue(state, kind)
            if kind is not None:
                timeouts.since = now()
            if out:
                out.append(reply)
                reply = b"".join(out)
                out.clear()
            if reply and not stream.start_send(reply):
                out.append(reply)
                await stream.finish_send()
            if state.attention:
                await self._attend()
            if connection.in_body:
                size = _BODY_READ
                if connection.body_refused:
                    self._discard_body()
            else:
                size, kind = _COMMAND_READ, None
            if fd is not None and (engine is None or engine.needs_ciphertext):
                await _wait_readable(fd)  # as stream.receive(), without a coroutine for each read
                data = stream.receive_now(size)
            if data is None:
                data = bytes(await stream.receive(size))  # no copy if it is bytes
            if connection.in_message:
                timeouts.octets += len(data)
            if state.attention:
                await self._attend_input()
            following = connection.receive_event(data)
            data = None  # a session that waits keeps no octets

    def _discard_body(self) -> None:
        """Discard what has arrived of a refused body.  The rest is read and not kept."""
        if self._state.transaction is not None:
            self._state.transaction.close()

    async def _attend(self) -> None:
        """Handle rare events before a read; keep the flag while more of them can come."""
        state, settings = self._state, self._state.profile.settings
        self.timeouts.change(settings.idle_time, min_rate=settings.min_data_rate)  # a trusted peer announced a client
        ending = state.service.draining or self._closing
        if ending and state.transaction is None:
            self._leave()
            await trio.lowlevel.checkpoint()
        state.attention = ending or self._renegotiable

    async def _attend_input(self) -> None:
        """Handle rare events between a read and the handling of its data."""
        if self._leaving:
            # The data came as the session ended.  A reply to it would be lost, and within TLS the 421 as well.
            await trio.lowlevel.checkpoint()
        if self._renegotiable:
            await self._look_for_renegotiation()

    # TLS

    async def _switch(self) -> bool:
        """Carry out STARTTLS: the 220, the handshake, and a session that knows nothing of what came before."""
        state = self._state
        await self._flush()
        state.forget_plaintext()
        if not await self._handshake():
            return False
        state.connection.tls_started()
        data = b"" if state.attention else self._stream.take_decrypted(_COMMAND_READ)
        if data:  # the next command has come with the end of the handshake
            state.connection.receive_data(data)
        else:
            # In TLS 1.3 the client has the last word of the handshake, and the next one too.  With Nagle's algorithm it
            # keeps that back until the former was acknowledged.
            self._stream.acknowledge()
        refusal = await establish_tls(state)
        if refusal is not None:
            refuse_from_now_on(state, refusal)
        return True

    async def _handshake(self) -> bool:
        """Carry out the TLS handshake; return False if it failed: then the session is over, never back in plaintext."""
        state, session, profile = self._state, self.session, self._state.profile
        assert profile.tls is not None, "a configuration without a certificate offers no TLS"
        context = self.context = state.service.context(state.generation, profile.tls)
        self._handshaking = True
        timer = self._timer = HandshakeTimer(profile.settings.tls_handshake_timeout, state.service.now())
        try:
            tls = await self._stream.start_tls(context, timer.receive, self._acquire_thread)
            self._timer = None
            state.bindings = self._stream.bindings()
            self._renegotiable = profile.settings.tls_allow_renegotiation
            state.attention = state.attention or self._renegotiable
            self._established(tls)
            return True
        except HandshakeError as error:
            self._timer = None
            reason, detail = error.reason, error.detail
        finally:
            self._handshaking = state.admitted_handshake = False
            state.service.limits.release_handshake(session.id)
        state.service.emit(TLSFailed(session=session.info, reason=reason, detail=detail))
        if reason not in {"peer_closed", "timed_out"}:
            self._handshaking = True  # no reply can be sent
            await self._linger()
        return False

    def _acquire_thread(self, size: int) -> AbstractAsyncContextManager[None]:
        """Return the place in which a large flight of the handshake is verified."""
        state = self._state
        return state.service.limits.flights.place(fair_queue_key(self.session), state.is_gone, size)

    def _established(self, tls: TLSInfo) -> None:
        """Keep what a handshake established, and report what it says of the client."""
        service, session = self._state.service, self.session
        session.connection_tls = tls
        if session.is_proxied:
            tls = session.tls or tls
        service.emit(TLSEstablished(session=session.info, tls=tls))
        if tls.server_purpose:
            service.emit(ServerCertificatePresented(session=session.info, tls=tls))

    async def _look_for_renegotiation(self) -> None:
        """Forget what the first handshake established, if the client has renegotiated, before its data is handled."""
        tls = self._stream.renegotiated()
        if tls is None:
            return
        state = self._state
        since, self.timeouts.since = self.timeouts.since, inf
        self._established(tls)
        auth.abandon_exchange(state)
        state.forget_handshake()
        refusal = await establish_tls(state)
        if refusal is not None:
            refuse_from_now_on(state, refusal)
        self.timeouts.since = since

    # Output outside of the loop, and the end

    async def _flush(self) -> None:
        """Write what is due though no read follows."""
        if self._stream.out or self._stream.unsent:
            self.timeouts.since = self._state.service.now()
            await self._stream.flush()
            self.timeouts.since = inf

    async def _finish(self) -> None:
        """Write what is due, and end TLS."""
        self.timeouts.since = self._state.service.now()
        scope = self._scope
        assert scope is not None, "the session runs"
        await self._stream.finish(renegotiable=self._renegotiable and not scope.cancel_called)

    async def _linger(self) -> None:
        """Let the peer read the last reply: it may be in the middle of a pipelined group, or of a body."""
        self.timeouts.since = inf
        await self._stream.linger(_CLOSE_SECONDS)

    async def _say_goodbye(self) -> SessionEnd:
        """Send the reason why the session's own scope was cancelled; return the end."""
        if self._timer is not None:  # in a handshake no reply can be sent
            late = self._timer.failure()
            self._state.service.emit(TLSFailed(session=self.session.info, reason=late.reason, detail=late.detail))
            return SessionEnd.TLS_FAILED
        if self._state.service.draining:
            end, reply = SessionEnd.DRAIN, _SHUTDOWN
        elif self._closing:
            end, reply = SessionEnd.CLOSED, _CLOSING
        else:
            expired = self.timeouts.expired or "idle"
            end, reply = SessionEnd(expired), _EXPIRED[expired]
        self._add_last(reply)
        # A stream whose sending was cut off in the middle may be broken already; why the session ends is known.
        with trio.move_on_after(_CLOSE_SECONDS), suppress(Exception):
            await self._finish()
            await self._linger()
        return end

    async def _send_at_last(self, reply: Reply) -> None:
        """Send what was decided and not sent yet, and ``reply``, though the session is cancelled."""
        self._add_last(reply)
        with trio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(Exception):  # why it ends is known already
            await self._finish()

    def _add_last(self, reply: Reply) -> None:
        """Add the last reply, unless the dialogue is over: the client has its last reply, or has closed.

        If TLS is due and not there yet, none is sent: plaintext would look like a broken handshake.
        """
        state = self._state
        if state.connection.closed:
            return
        due = state.profile.settings.use_ssl or state.connection.state is State.SWITCHING
        state.connection.close()
        if self._stream.encrypted or not due:
            self._stream.out.append(reply.render(enhanced=state.profile.rules.enhanced_status_codes))

    async def _end_broken(self) -> SessionEnd:
        """Return the end of a session whose stream broke; if it was TLS, send the alert (RFC 8446, section 6.2)."""
        broken = await self._stream.send_alert()
        if broken is None:
            return SessionEnd.PEER_CLOSED
        end, self._detail = broken
        await self._linger()
        return SessionEnd(end)

    async def _close(self, end: SessionEnd) -> None:
        """Release what the session holds, and emit its end."""
        state = self._state
        service = state.service
        service.running.discard(self)
        if state.admitted_handshake:
            service.limits.release_handshake(self.session.id)
        if state.transaction is not None:
            state.transaction.close()
        try:
            self.session.release()
            await self._stream.close()
        finally:
            service.emit(
                Disconnected(
                    session=self.session.info,
                    reason=str(end),  # not a member of an Enum, which a worker would have to pickle
                    seconds=service.now() - self.started,
                    messages=state.messages,
                    commands=state.connection.commands,
                    detail=self._detail,
                )
            )
