"""The server's side of one SMTP connection, without any I/O: bytes in, events out; replies in, bytes out.

Three verbs and two pauses::

    connection = Connection(rules)
    wire = connection.send(Reply(220, "mx.example.org ESMTP"))   # the banner is owed first
    while not connection.closed:
        event = connection.next_event()
        if event is NEED_DATA:                 # write what is due, then
            connection.receive_data(read())    # b"" where the peer closed
        elif isinstance(event, BodyChunk):     # the only events besides SwitchToTLS and ConnectionEnded
            spool(event.data)                  # that no reply is owed for
        else:
            wire += connection.send(answer(event))

The grammar of the dialogue is the table in :mod:`triosmtp.smtp.command`; here it is only carried out.
"""

from collections.abc import Hashable
from typing import cast

from attrs import evolve

from triosmtp.smtp.argument import parse_bdat
from triosmtp.smtp.authentication import MAX_AUTH_LINE, parse_response
from triosmtp.smtp.body import BodyDecoder
from triosmtp.smtp.budget import Budget
from triosmtp.smtp.chunk import ChunkState, chunk_error
from triosmtp.smtp.command import (
    ANNOUNCED,
    BANNER,
    BANNER_HELLO_DEMANDED,
    COMMANDS,
    END_OF_BODY,
    END_OF_CHUNK,
    HANDSHAKE,
    HARD_ERROR,
    IN_ORDER,
    MISTAKE,
    RESPONSE,
    Row,
    State,
    trusted_command,
)
from triosmtp.smtp.event import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    ConnectionEnded,
    Event,
    Fatal,
    Hello,
    Pause,
    SwitchToTLS,
)
from triosmtp.smtp.fact import CommandError, Facts
from triosmtp.smtp.fault import (
    BAD_SEQUENCE,
    INJECTION,
    TLS_FIRST,
    TOO_LONG,
    TOO_MANY_ERRORS,
    TOO_MUCH,
    begins_like_bdat,
    not_a_command,
    told,
)
from triosmtp.smtp.octet import check_octets, plain_line
from triosmtp.smtp.reply import Reply
from triosmtp.smtp.rules import Rules

__all__ = ["Connection"]

MAX_LINE_SHOWN = 512  # octets of a line that a BadCommand carries

# Members of an Enum are slow to look up in Python 3.11, and these stand on the way of every event.
_READY, _BODY, _SWITCHING, _CLOSED = State.READY, State.BODY, State.SWITCHING, State.CLOSED
_REFUSED, _RCPT, _CHUNK, _CHUNKS, _AUTH = State.REFUSED, State.RCPT, State.CHUNK, State.CHUNKS, State.AUTH
_UNCLEAN = (State.MAIL, State.DECLINED, State.RCPT, State.CHUNKS, State.AUTH, State.BODY, State.CHUNK, State.SWITCHING)

_NAMES = {verb: verb.decode("ascii") for verb in COMMANDS}

_CLOSING = (221, 421)  # as Reply.closes, without a call
_AFTER_REFUSAL = frozenset({b"QUIT", b"BDAT"})  # octets follow BDAT, which must not be taken for commands


class Connection:
    """One connection, from the banner to its end.

    Every input has an outcome that is an event.  A :class:`RuntimeError` tells of a mistake in the program that drives
    the connection, never of anything the peer did.
    """

    __slots__ = (
        "_answered", "_body", "_buffer", "_chunk", "_chunk_left", "_counted", "_ended", "_error", "_facts", "_max_line",
        "_offset", "_owed", "_refusal", "_skipped", "_switch_due", "_thrown_away", "_unrestricted", "closed",
        "commands", "in_body", "in_message", "rules", "state",
    )  # fmt: skip

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = State.CONNECTED
        """Where the dialogue stands; for reading."""
        self.closed = False
        """Whether the dialogue is over: send what is due, then close."""
        self.in_body = False
        """Whether what arrives now is a message: a reason to read in large pieces."""
        self.in_message = False
        """Whether a message has begun and not ended: its octets are due, or the BDAT that brings more of them."""
        self.commands: dict[str, int] = {}
        """How often each command came, by its verb; what is none is ``other``."""
        self._facts = Facts(rules, Budget(rules))
        self._max_line = rules.max_line
        self._buffer = b""
        self._offset = 0  # what is before it in the buffer was handled
        self._skipped = b""  # the beginning of a line that is too long, while the rest of it is thrown away
        self._thrown_away = 0  # octets of that line
        self._ended = False  # the peer closed
        self._owed: Row | None = BANNER_HELLO_DEMANDED if rules.require_hello else BANNER
        self._error: Reply | None = None  # the reply that a bad command, a faulty body or a hard error is owed
        self._counted = False  # the bad command that waits for its reply was counted, or excused
        self._answered: Row = BANNER
        self._refusal: Reply | None = None
        self._switch_due = False  # 220 to STARTTLS was sent, SwitchToTLS was not given out yet
        self._unrestricted = not rules.require_tls  # the state alone decides which commands are in order
        self._body: BodyDecoder | None = None
        self._chunk: ChunkState | None = None
        self._chunk_left = 0  # octets of it that have not come yet

    @property
    def body_refused(self) -> bool:
        """Whether the body that arrives, or the last one that did, has a fault, and nothing more of it is given out."""
        return self._body is not None and self._body.fault is not None

    @property
    def utf8(self) -> bool:
        """Whether replies may hold UTF-8 now: the transaction asked for SMTPUTF8 (RFC 6531, section 3.7.4.1)."""
        return self._facts.smtputf8

    @property
    def must_flush(self) -> bool:
        """Whether the latest reply must not wait for further ones before it is written (RFC 2920, section 3.2).

        At :data:`NEED_DATA`, and before a handshake, all replies must be written whatever this says.
        """
        return self._answered.ends_group

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take what the peer sent; ``b""`` is that it closed.  After the end of the dialogue it is thrown away.

        :raises RuntimeError: after ``b""``, or while a TLS handshake is under way.
        """
        if data and not (self._buffer or self._ended) and self.state < _SWITCHING:
            self._buffer = bytes(data)  # the very same object if it is bytes already
            if self._facts.excused and self.state is not _CHUNK:
                self._facts.excused = False
        elif self.state >= _SWITCHING:
            if self.state is _SWITCHING and data:
                raise RuntimeError("octets of a TLS handshake are not for the SMTP connection")
            self._ended = self._ended or not data
        elif self._ended:
            raise RuntimeError("the peer has closed already")
        elif data:
            # In the middle of a line: the rest of it, and what is behind it, was under way with the beginning.
            self._buffer = self._buffer[self._offset :] + data
            self._offset = 0
        else:
            self._ended = True

    def next_event(self) -> Event | Pause:
        """Give the next event, or why there is none: :data:`NEED_DATA` or :data:`PAUSED`."""
        if self._owed is not None:
            return PAUSED
        state, buffer = self.state, self._buffer
        if state >= _BODY:
            return self._next_without_command()
        if not buffer:
            return self._without_input() if self._ended or self._switch_due else NEED_DATA
        start = self._offset
        if not self._unrestricted or (match := plain_line(buffer, start, start + self._max_line)) is None:
            return self._next_line()
        line, verb, argument = match.groups(b"")
        command = IN_ORDER[state].get(verb)
        if command is None:
            return self._next_line()
        # Nearly every command: a shorter way to what _next_line() and _command() would return.
        self._use(match.end())
        self._owed = command
        commands, name = self.commands, command.name
        commands[name] = commands.get(name, 0) + 1
        if command.junk and self._facts.budget.add_junk():
            return self._too_much_junk()
        try:
            return command.parse(line, argument, self._facts)
        except CommandError as error:
            return self._bad_command(error, told(line, secret=False))

    def _next_line(self) -> Event | Pause:
        """Return what the next line is, whatever it holds; or what is to be done if it is incomplete."""
        buffer, start = self._buffer, self._offset
        end = buffer.find(b"\r\n", start)
        most = self._max_line - 2
        too_long = end - start > most or (end < 0 and len(buffer) - start > most + 1)
        if self._skipped or (too_long and not self._may_be_longer(end)):
            return self._too_long(end)
        if end < 0:
            return self._without_input()
        self._use(end + 2)
        line = buffer[start:end]
        try:
            if self.state is _AUTH:
                self._owed = RESPONSE
                check_octets(line)
                return parse_response(line)
            return self._command(line)
        except CommandError as error:
            if self.state is not _AUTH and begins_like_bdat(line):
                return self._hard_error(error.reply, f"{error.reason}, in a BDAT: where its octets end is not known")
            return self._bad_command(error, told(line, secret=self.state is _AUTH))

    def _use(self, offset: int) -> None:
        """Take note that the buffer was handled up to ``offset``."""
        if offset == len(self._buffer):
            self._buffer = b""
            self._offset = 0
        else:
            self._offset = offset

    def offer(self, mechanisms: tuple[str, ...], withheld: frozenset[str] = frozenset()) -> None:
        """Offer AUTH with these mechanisms from now on; ``withheld`` are those that wait for TLS.

        Call it again after :meth:`tls_started`, which forgets them.
        """
        self._facts.mechanisms, self._facts.withheld = mechanisms, withheld

    def accept(self) -> bytes:
        """Answer what is owed with the positive reply of its row; return the bytes to write.

        The result is that of :meth:`send` without a reply.  It costs less, since replies are rendered once for all
        connections with the same settings.

        :raises RuntimeError: if no reply is owed.
        """
        row, state, facts = self._owed, self.state, self._facts
        if row is None or self._error is not None:
            return self.send()
        wire = self.rules.rendered.get(row) or self._positive_reply(row)
        self._owed = None
        self._answered = row
        move = row.moves[state]
        if move > _RCPT or state > _RCPT:
            self._move(row)
            return wire
        self.state = move
        if row.effect is not None:
            row.effect(facts)
        if move <= _READY:
            facts.smtputf8 = facts.binary = False
        return wire

    def _positive_reply(self, row: Row) -> bytes:
        """Render the positive reply of ``row``.  Keep the bytes if the settings and the key alone decide about them."""
        facts, rendered = self._facts, self.rules.rendered
        reply, key = row.reply, cast("Hashable", row)
        if not isinstance(reply, Reply):
            key = row, facts.tls, facts.mechanisms
            if wire := rendered.get(key):
                return wire
            reply = reply(facts)
        enhanced = row.enhanced and self.rules.enhanced_status_codes
        wire = reply.render(enhanced=enhanced, utf8=facts.smtputf8)
        if wire == reply.render(enhanced=enhanced, utf8=not facts.smtputf8):
            rendered[key] = wire
        return wire

    def send(self, reply: Reply | None = None, *, by_limit: bool = False) -> bytes:
        """Answer what is owed with ``reply``, or with the positive reply of its row; give the bytes to write.

        To a :class:`BadCommand`, :class:`Fatal` or :class:`BodyEnd` with a fault, None is the reply that they carry.  A
        421 may be sent at any time: it ends the connection (RFC 5321, section 3.8).

        A refusal counts in :attr:`Rules.max_command_errors`, except for a RCPT, whose refusals the caller bounds.  One
        that is ``by_limit`` (a limit was reached, and the client is no worse for that), and a 454, count in
        :attr:`Rules.max_junk_commands`.  When there were too many, the next command but QUIT is a :class:`Fatal`.

        :raises RuntimeError: where no reply is owed, or a positive one is given that does not answer what is owed.
        """
        row = self._owed
        if row is None:
            if reply is None or reply.code != 421 or self.state >= _SWITCHING:
                raise RuntimeError("no reply is owed")
            row = MISTAKE
        facts = self._facts
        if reply is None:
            default = self._error or row.reply
            reply = default if isinstance(default, Reply) else default(facts)
        code = reply.code
        continued = code == 334 and self._error is None and row.continued is not None
        if code < 400 and (self._error is not None or code // 100 != row.reply_class) and not continued:
            raise RuntimeError(f"{code} does not answer {row.name}{' that is in error' if self._error else ''}")
        wire = reply.render(enhanced=row.enhanced and self.rules.enhanced_status_codes, utf8=facts.smtputf8)
        self._owed = self._error = None
        self._answered = row
        if code >= 400:
            self._refused(row, code, by_limit=by_limit)
        elif continued and row.continued is not None:
            self._enter(row.continued)
        else:
            self._move(row)
        if code in _CLOSING:
            self.close()
        return wire

    def _refused(self, row: Row, code: int, *, by_limit: bool) -> None:
        """Do what a negative reply brings with it."""
        facts = self._facts
        self._enter(row.refused.get(self.state, self.state))
        facts.excused = facts.excused or row.excuses
        if self._counted or not row.refusal_counts:
            self._counted = False
        elif by_limit or code == 454:
            if not row.junk and facts.budget.add_junk():  # those of junk were counted when they came
                self.refuse(TOO_MUCH)
        elif facts.budget.add_error():
            self.refuse(TOO_MANY_ERRORS)

    def _move(self, row: Row) -> None:
        """Do what a positive reply brings with it."""
        move = row.moves[self.state]
        if move is _SWITCHING:
            self._switch_due = True
            self._unrestricted = False
            if self.rules.starttls_injection == "allow":
                return  # the move waits until all that came with STARTTLS was handled
        elif move is _BODY:
            self._body = BodyDecoder(self.rules)
        self._enter(move)
        if row.effect is not None:
            row.effect(self._facts)

    def _enter(self, state: State) -> None:
        """Go to ``state``.  Between the states up to RCPT, :meth:`accept` does the same without a call."""
        self.state = state
        self.in_body = state is _BODY or state is _CHUNK
        self.in_message = state is _CHUNKS or self.in_body
        if state <= _READY:
            self._facts.smtputf8 = self._facts.binary = False
        elif state is _CLOSED:
            self.close()

    def _look_again(self) -> None:
        """Find out whether the state alone decides which commands are in order."""
        free = self._facts.tls or not self.rules.require_tls
        self._unrestricted = free and self._refusal is None and not (self._switch_due or self._skipped)

    def close(self) -> None:
        """End the dialogue from our side: nothing more is received or told."""
        self.state = _CLOSED
        self.closed = True
        self.in_body = self.in_message = False
        self._buffer = self._skipped = b""
        self._offset = 0

    def refuse(self, reply: Reply) -> None:
        """From now on answer every line but QUIT with ``reply``, as a :class:`BadCommand`.

        For a policy that refuses where there is no command to answer: at the end of a handshake.
        """
        self._refusal = reply
        self._unrestricted = False

    def tls_started(self) -> None:
        """Take note that the handshake is done: all that was learnt before it is forgotten (RFC 3207, section 4.2).

        Where TLS is there from the first octet, call it before the banner.

        :raises RuntimeError: where no handshake was due.
        """
        if self.state is _SWITCHING:
            self._enter(HANDSHAKE.moves[self.state])
        elif self.state is not State.CONNECTED:
            raise RuntimeError("no handshake was due")
        self._facts = Facts(self.rules, self._facts.budget, tls=True)
        self._look_again()

    def renew(self, rules: Rules, *, hello: Hello | None, authenticated: bool = False, banner: bool = False) -> None:
        """Go on with ``rules``: the peer speaks for another one from now on, whose ``hello`` is known or not.

        With ``banner`` the dialogue begins anew (XCLIENT): what is owed is the greeting.
        """
        old = self._facts
        self.rules, self._max_line = rules, rules.max_line
        old.budget.rules = rules
        self._facts = Facts(rules, old.budget, tls=old.tls, authenticated=authenticated)
        self._facts.esmtp = hello is not None and hello.verb == "EHLO"
        self._owed = ANNOUNCED
        if banner:
            self._enter(State.CONNECTED)
            self._owed = BANNER_HELLO_DEMANDED if rules.require_hello and hello is None else BANNER
        self._look_again()

    # Lines and commands

    def _command(self, line: bytes) -> Event | Pause:
        """Turn one line into its event, and owe its reply."""
        rules, facts, state = self.rules, self._facts, self.state
        if rules.allow_trailing_whitespace and line.endswith((b" ", b"\t")) and not begins_like_bdat(line):
            line = line.rstrip(b" \t")
        check_octets(line)
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        name = _NAMES.get(verb, "other")
        self.commands[name] = self.commands.get(name, 0) + 1
        if state is _REFUSED and verb not in _AFTER_REFUSAL:
            raise CommandError(BAD_SEQUENCE, "a command after the banner was a refusal")
        if verb == b"BDAT":
            return self._begin_chunk(line, argument)
        command = self._owed = COMMANDS.get(verb) or trusted_command(verb, rules)
        if command is None or line.endswith(b" "):
            raise not_a_command(command, verb)
        row = command
        if self._refusal is not None and verb != b"QUIT":
            raise CommandError(self._refusal, "refused before")
        if rules.require_tls and not (facts.tls or row.before_tls):
            raise CommandError(TLS_FIRST, "TLS is required")
        move = row.moves.get(state)
        if move is None or (self._switch_due and move in {_BODY, _SWITCHING}):
            raise row.out_of_sequence(state, facts)
        if row.junk and facts.budget.add_junk():
            return self._too_much_junk()
        event = row.parse(line, argument, facts)
        if move is _SWITCHING and rules.starttls_injection == "reject" and self._offset < len(self._buffer):
            return self._injection("STARTTLS injection: input behind STARTTLS in plaintext")
        return event

    def _too_much_junk(self) -> Fatal:
        return self._hard_error(TOO_MUCH, "too many commands that do nothing for a message")

    def _begin_chunk(self, line: bytes, argument: bytes) -> Event | Pause:
        """Begin to take the octets that follow BDAT, whatever its reply will be: they are never commands."""
        facts, before = self._facts, self.state
        chunk = parse_bdat(line, argument, facts)
        refused = chunk_error(facts, before, self._refusal, switch_due=self._switch_due)
        if not (chunk.size or chunk.last) and facts.budget.add_junk():
            return self._hard_error(TOO_MUCH, "too many chunks of nothing")
        self._chunk = ChunkState(line, before, chunk.last, refused)
        self._chunk_left = chunk.size
        if refused is not None:
            if chunk.size > self.rules.max_excess:
                return self._hard_error(refused.reply, f"{refused.reason}, and {chunk.size} octets to be thrown away")
            self._enter(_CHUNK)
            return self._next_of_chunk()
        first = before is not _CHUNKS
        if first:
            self._body = BodyDecoder(self.rules, binary=facts.binary)
        self._enter(_CHUNK)
        return evolve(chunk, first=first)

    def _bad_command(self, error: CommandError, line: bytes) -> BadCommand | Fatal:
        reply = self._refusal or error.reply
        if reply is TOO_MANY_ERRORS or reply is TOO_MUCH:
            return self._hard_error(reply, "too many commands were refused")
        self._counted = True
        if error.counts and self._facts.budget.add_error():
            return self._hard_error(TOO_MANY_ERRORS, f"too many errors; the last one: {error.reason}")
        self._owed = self._owed or MISTAKE
        self._error = reply
        return BadCommand(reply, line[:MAX_LINE_SHOWN], error.reason)

    def _hard_error(self, reply: Reply, reason: str) -> Fatal:
        self._owed = HARD_ERROR
        self._error = reply
        return Fatal(reply, reason)

    def _injection(self, reason: str) -> Fatal:
        return evolve(self._hard_error(INJECTION, reason), injection=True)

    def _may_be_longer(self, end: int) -> bool:
        """Whether the line that begins here is one of AUTH, and not too long for that."""
        facts, start = self._facts, self._offset
        if self._skipped or not facts.mechanisms:
            return False
        if self.state is not _AUTH and self._buffer[start : start + 5].upper() != b"AUTH ":
            return False
        return (end if end >= 0 else len(self._buffer) - 1) - start <= MAX_AUTH_LINE - 2

    def _too_long(self, end: int) -> Event | Pause:
        """Throw away a line that is too long, up to its CRLF at ``end``, and keep its beginning for the log."""
        line = self._skipped or self._buffer[self._offset : self._offset + MAX_LINE_SHOWN]
        if begins_like_bdat(line) and self.state is not _AUTH:
            return self._hard_error(TOO_LONG, "what begins like BDAT is too long")
        stop = end if end >= 0 else len(self._buffer) - self._buffer.endswith(b"\r")
        self._thrown_away += stop - self._offset
        if self._thrown_away > self.rules.max_excess:
            return self._hard_error(TOO_LONG, f"{self._thrown_away} octets of a line that is too long")
        if end < 0:
            self._skipped = line
            self._unrestricted = False
            self._offset = stop
            return self._without_input()
        self._skipped = b""
        self._look_again()
        self._thrown_away = 0
        self._offset = end + 2
        self._owed = RESPONSE if self.state is _AUTH else None
        error = CommandError(TOO_LONG, f"a line above {self.rules.max_line} octets")
        return self._bad_command(error, told(line, secret=self.state is _AUTH))

    # Everything that is no command

    def _next_without_command(self) -> Event | Pause:
        if self.state is not _BODY:
            return self._next_outside_of_lines()
        body = self._body
        assert body is not None
        if self._buffer and not body.ended:
            part, offset = body.decode(self._buffer, self._offset)
            self._use(offset)
            if part:
                return BodyChunk(part)
        if body.excess > self.rules.max_excess:
            return self._give_up(body)
        if not body.ended:
            return self._without_input()
        self._owed = END_OF_BODY
        self._error = body.fault
        return BodyEnd(body.size, body.fault)

    def _next_outside_of_lines(self) -> Event | Pause:
        if self.state is _CHUNK:
            return self._next_of_chunk()
        if self.state is _CLOSED:
            return NEED_DATA
        if self._switch_due:
            return self._switch()
        return self._without_input() if self._ended else PAUSED

    def _next_of_chunk(self) -> Event | Pause:
        chunk, body = self._chunk, self._body
        assert chunk is not None
        if chunk.error is not None:
            return self._skip_chunk(chunk, chunk.error)
        assert body is not None
        while self._chunk_left and body.excess <= self.rules.max_excess:
            octets = self._take_of_chunk()
            if not octets:
                return self._without_input()
            part = body.take(octets, final=chunk.last and not self._chunk_left)
            if part:
                return BodyChunk(part)
        if self._chunk_left:
            return self._give_up(body)
        if chunk.last and body.holds:
            part = body.take(b"", final=True)
            if part:
                return BodyChunk(part)
        self._error = body.fault
        self._owed = END_OF_BODY if chunk.last else END_OF_CHUNK
        return (BodyEnd if chunk.last else ChunkEnd)(body.size, body.fault)

    def _skip_chunk(self, chunk: ChunkState, error: CommandError) -> Event | Pause:
        """Throw away the octets of a BDAT that is refused.  Its size was compared with ``max_excess`` before."""
        self._take_of_chunk()
        if self._chunk_left:
            return self._without_input()
        self._enter(chunk.before)
        return self._bad_command(error, chunk.line)

    def _take_of_chunk(self) -> bytes:
        octets = self._buffer[self._offset : self._offset + self._chunk_left]
        self._use(self._offset + len(octets))
        self._chunk_left -= len(octets)
        return octets

    def _give_up(self, body: BodyDecoder) -> Fatal:
        """Answer a body that was refused long ago, and read no more of it."""
        assert body.fault is not None
        return self._hard_error(body.fault, f"{body.excess} octets of a body that was refused")

    def _switch(self) -> Event:
        if self.rules.starttls_injection == "reject" and self._offset < len(self._buffer):
            return self._injection("STARTTLS injection: input between STARTTLS and its reply")
        self._switch_due = False
        self._buffer = self._skipped = b""
        self._offset = 0
        self._enter(_SWITCHING)
        return SwitchToTLS()

    def _without_input(self) -> Event | Pause:
        """Say what there is when what was received holds no further event; let go of all but the unhandled rest."""
        if self._switch_due:
            return self._switch()
        self._buffer = self._buffer[self._offset :]
        self._offset = 0
        if not self._ended:
            return NEED_DATA
        clean = not (self._buffer or self._skipped or self.state in _UNCLEAN)
        self.close()
        return ConnectionEnded(clean)
