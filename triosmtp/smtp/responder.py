"""The half of a connection that replies: the state of the dialogue, the reply that is owed, and its consequences.

The grammar is the table in :mod:`triosmtp.smtp.command`.  The other half, bytes in and events out, is
:mod:`triosmtp.smtp.connection`.
"""

from triosmtp.smtp.body import BodyDecoder
from triosmtp.smtp.command import BAD_COMMAND, BANNER, BANNER_HELLO_REQUIRED, HANDSHAKE, PEER_CHANGED, State, Transition
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import DialogueState
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.fixed_replies import TOO_MANY_ERRORS, TOO_MUCH_JUNK
from triosmtp.smtp.protocol_event import Hello
from triosmtp.smtp.reply import Reply

__all__ = ["Responder"]

# Members of an Enum are slow to look up in Python 3.11, and every reply needs these.
_READY, _RCPT, _BODY, _CHUNK = State.READY, State.RCPT, State.BODY, State.CHUNK
_SWITCHING, _CLOSED = State.SWITCHING, State.CLOSED
_RECEIVES = tuple((state in {_BODY, _CHUNK}, state in {_BODY, _CHUNK, State.CHUNKS}) for state in State)
_CLOSING = (221, 421)  # RFC 5321, section 3.8


class Responder:
    """The state of a dialogue, changed by replies.

    A :class:`RuntimeError` is a mistake of the program that drives the connection, never of the peer.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_counted",
        "_dialogue",
        "_error",
        "_max_line",
        "_offset",
        "_open",
        "_owed",
        "_refusal",
        "_shortcut",
        "_skipped",
        "_switch_due",
        "closed",
        "in_body",
        "in_message",
        "needs_data",
        "settings",
        "state",
    )  # fmt: skip

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.state = State.CONNECTED
        """The state of the dialogue.  Read only."""
        self.closed = False
        """Whether the dialogue is over: write the replies, then close."""
        self.in_body = False
        """Whether octets that arrive now belong to a message, so that large reads pay.  Read only."""
        self.in_message = False
        """Whether a message has begun and not ended: its octets are due, or the next BDAT.  Read only."""
        self.needs_data = not (settings.require_tls or settings.removed_capabilities)
        """Whether ``next_event`` would return ``NEED_DATA`` as soon as no reply is owed, if that is known already: then
        the call can be left out.  Read only."""
        self._dialogue = DialogueState(settings, ErrorCounts(settings))
        self._max_line = settings.max_line
        self._buffer = b""
        self._offset = 0  # Octets of the buffer that were handled.  0 if the buffer is empty.
        self._skipped = b""  # The beginning of a line that is too long, while its rest is discarded.
        self._open = True  # Octets of SMTP may arrive: no handshake is due, and the dialogue has not ended.
        self._owed: Transition | None = BANNER_HELLO_REQUIRED if settings.require_hello else BANNER
        self._error: Reply | None = None  # The reply that is owed to a bad command, a body or a fatal error.
        self._counted = False  # The bad command that waits for its reply was counted.
        self._refusal: Reply | None = None  # The reply to every command except QUIT.
        self._switch_due = False  # 220 to STARTTLS was sent, SwitchToTLS was not returned yet.
        self._shortcut = self.needs_data  # The state alone decides which commands are accepted.
        self._body: BodyDecoder | None = None

    @property
    def body_refused(self) -> bool:
        """Whether the body that arrives, or the last one, has an error, so that no more of it is returned."""
        return self._body is not None and self._body.error is not None

    def offer_auth(self, mechanisms: tuple[str, ...], tls_only_mechanisms: frozenset[str] = frozenset()) -> None:
        """Offer AUTH with these mechanisms from now on; ``withheld`` are those that wait for TLS.

        Call it again after :meth:`tls_started`, which forgets them.
        """
        if "AUTH" in self.settings.removed_capabilities:
            mechanisms, tls_only_mechanisms = (), frozenset()
        self._dialogue.mechanisms, self._dialogue.tls_only_mechanisms = mechanisms, tls_only_mechanisms

    def change_capabilities(self, settings: ConnectionSettings) -> None:
        """Apply ``settings`` that differ in their capabilities only: extensions, and what EHLO adds or removes."""
        self.settings = self._dialogue.settings = self._dialogue.errors.settings = settings
        self.offer_auth(self._dialogue.mechanisms, self._dialogue.tls_only_mechanisms)
        self._update_shortcut()

    def accept(self, wire: bytes = b"") -> bytes:
        """Answer what is owed with the positive reply of its row; return the bytes to write.

        ``wire`` is another positive reply of the same class, as it is written.

        The result is that of :meth:`send` without a reply.  It costs less, since replies are rendered once for all
        connections with the same settings.

        :raises RuntimeError: if no reply is owed.
        """
        row = self._owed
        if row is None or self._error is not None:
            return self.send()
        wire = wire or self.settings.rendered.get(row) or self._positive_reply(row)
        self._owed = None
        move = row.transitions[self.state]
        # As _move() and _enter().  A message ends in READY, so that the states above it change less.
        if move <= _RCPT:
            if move <= _READY:
                self.in_body = self.in_message = False
                self._dialogue.smtputf8 = self._dialogue.binary = False
        elif move is _BODY:
            self._body = None
            self.in_body = self.in_message = True
        else:
            self._move(row, move)
            return wire
        self.state = move
        if row.effect is not None:
            row.effect(self._dialogue)
        return wire

    def _positive_reply(self, row: Transition) -> bytes:
        """Render the positive reply of ``row``.  Keep the bytes if the settings and the key alone decide about them."""
        dialogue, rendered = self._dialogue, self.settings.rendered
        reply = row.reply
        key: object = row
        if not isinstance(reply, Reply):
            key = row, dialogue.tls, dialogue.mechanisms
            if wire := rendered.get(key):
                return wire
            reply = reply(dialogue)
        enhanced = row.enhanced and self.settings.enhanced_status_codes
        wire = reply.render(enhanced=enhanced, utf8=dialogue.smtputf8)
        if wire == reply.render(enhanced=enhanced, utf8=not dialogue.smtputf8):
            rendered[key] = wire
        return wire

    def rendered(self, reply: Reply) -> bytes:
        """Return a reply as it is written here, for one that takes the place of another of its class."""
        return reply.render(enhanced=self.settings.enhanced_status_codes, utf8=self._dialogue.smtputf8)

    def send(self, reply: Reply | None = None, *, by_limit: bool = False) -> bytes:
        """Answer what is owed with ``reply``; return the bytes to write.

        None is the reply that a :class:`BadCommand`, :class:`ProtocolFailure` or :class:`BodyEnd` carries, otherwise
        the one of
        :meth:`accept`.  A 421 may be sent at any time: it ends the connection (RFC 5321, section 3.8).

        A refusal counts in ``max_command_errors`` of the settings, except for RCPT, whose refusals the caller limits.
        A refusal ``by_limit`` (a limit of the server was reached) and a 454 count in ``max_junk_commands``.  If there
        were too many, the next command except QUIT is a :class:`ProtocolFailure`.

        :raises RuntimeError: if no reply is owed, or if a positive one does not answer what is owed.
        """
        row, dialogue = self._owed, self._dialogue
        if row is None:
            if reply is None or reply.code != 421 or self.state >= _SWITCHING:
                raise RuntimeError("no reply is owed")
            row = BAD_COMMAND
        if reply is None:
            default = self._error or row.reply
            reply = default if isinstance(default, Reply) else default(dialogue)
        code, move = reply.code, None
        if code < 400:
            good = code // 100 == row.reply_class and self._error is None
            move = row.transitions[self.state] if good else self._continue(row, code)
        wire = reply.render(enhanced=row.enhanced and self.settings.enhanced_status_codes, utf8=dialogue.smtputf8)
        self._owed = self._error = None
        if move is None:
            self._refused(row, code, by_limit=by_limit)
        elif code == 334:
            self._enter(move)
        else:
            self._move(row, move)
        if code in _CLOSING:
            self.close()
        return wire

    def _continue(self, row: Transition, code: int) -> State:
        if code == 334 and row.continued is not None and self._error is None:
            return row.continued
        raise RuntimeError(f"{code} does not answer {row.name}{' that is in error' if self._error else ''}")

    def _refused(self, row: Transition, code: int, *, by_limit: bool) -> None:
        """Apply a negative reply."""
        dialogue = self._dialogue
        self._enter(row.refused.get(self.state, self.state))
        dialogue.pipelined_after_refusal = dialogue.pipelined_after_refusal or row.excuses_pipelined
        if self._counted or not row.refusal_counts:
            self._counted = False
        elif by_limit or code == 454:
            if not row.junk and dialogue.errors.count_junk():  # a junk command was counted when it arrived
                self.refuse_commands(TOO_MUCH_JUNK)
        elif dialogue.errors.count_error():
            self.refuse_commands(TOO_MANY_ERRORS)

    def _move(self, row: Transition, move: State) -> None:
        """Apply a positive reply."""
        if move is _BODY:
            self._body = None
        if move is _SWITCHING:
            self._switch_due = True
            self._shortcut = self.needs_data = False
            if self.settings.starttls_injection == "allow":
                return  # only after all octets that arrived with STARTTLS
        self._enter(move)
        if row.effect is not None:
            row.effect(self._dialogue)

    def _enter(self, state: State) -> None:
        """Enter ``state``.  For usual replies, :meth:`accept` does the same without a call."""
        self.state = state
        self.in_body, self.in_message = _RECEIVES[state]
        if state <= _READY:
            self._dialogue.smtputf8 = self._dialogue.binary = False
        elif state is _SWITCHING:
            self._open = False
        elif state is _CLOSED:
            self.close()

    def _update_shortcut(self) -> None:
        """Determine whether the state alone decides which commands are accepted."""
        free = self._dialogue.tls or not self.settings.require_tls
        usual = free and not self.settings.removed_capabilities
        self._shortcut = usual and self._open and self._refusal is None and not (self._switch_due or self._skipped)
        self.needs_data = self.needs_data and self._shortcut

    def close(self) -> None:
        """End the dialogue from the server's side: no more octets are handled."""
        self.state = _CLOSED
        self.closed = True
        self.in_body = self.in_message = self.needs_data = self._open = self._shortcut = False
        self._buffer = self._skipped = b""
        self._offset = 0

    def refuse_commands(self, reply: Reply) -> None:
        """Refuse every command except QUIT with ``reply`` from now on, as a :class:`BadCommand`.

        This is for a refusal at the end of a handshake, which has no reply.
        """
        self._refusal = reply
        self._shortcut = self.needs_data = False

    def tls_started(self) -> None:
        """Record that the handshake is complete.  Earlier results are discarded (RFC 3207, section 4.2).

        If the connection begins with TLS, call this before the banner.

        :raises RuntimeError: if no handshake was due.
        """
        if self.state is _SWITCHING:
            self.state = HANDSHAKE.transitions[_SWITCHING]
        elif self.state is not State.CONNECTED:
            raise RuntimeError("no handshake was due")
        self._dialogue = DialogueState(self.settings, self._dialogue.errors, tls=True)
        self._open = True
        self._update_shortcut()

    def change_peer(
        self, settings: ConnectionSettings, *, hello: Hello | None, authenticated: bool = False, banner: bool = False
    ) -> None:
        """Apply the ``settings`` of another client, which a trusted peer announced.

        ``hello`` is that client's EHLO or HELO, or None if it is unknown.  With ``banner`` the dialogue begins again
        (XCLIENT), and the banner is owed.
        """
        old = self._dialogue
        self.settings, self._max_line = settings, settings.max_line
        old.errors.settings = settings
        self._dialogue = DialogueState(settings, old.errors, tls=old.tls, authenticated=authenticated)
        self._dialogue.esmtp = hello is not None and hello.verb == "EHLO"
        self._owed = PEER_CHANGED
        if banner:
            self._enter(State.CONNECTED)
            self._owed = BANNER_HELLO_REQUIRED if settings.require_hello and hello is None else BANNER
        self._update_shortcut()
