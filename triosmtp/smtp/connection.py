"""The server's side of one SMTP connection, without any I/O: bytes in, events out; replies in, bytes out.

Three verbs and two pauses::

    connection = Connection(settings)
    wire = connection.send(Reply(220, "mx.example.org ESMTP"))   # the banner is owed first
    while not connection.closed:
        event = connection.next_event()
        if event is NEED_DATA:                 # write the replies, then
            connection.receive_data(read())    # b"" if the peer closed
        elif isinstance(event, BodyChunk):     # no reply is owed; also to Bdat, SwitchToTLS and ConnectionEnded
            spool(event.data)
        elif accepts(event):
            wire += connection.accept()        # the positive reply of the table
        else:
            wire += connection.send(reply(event))

A caller may skip ``next_event`` while ``needs_data`` is true: it would return ``NEED_DATA``.  ``receive_event`` is
``receive_data`` and ``next_event`` in one call, and costs less.

The grammar of the dialogue is the table in :mod:`triosmtp.smtp.command`.  This module applies it.
"""

import re
from collections import defaultdict

from attrs import evolve

from triosmtp.smtp.argument import parse_bdat, refuse_removed
from triosmtp.smtp.auth_line import MAX_AUTH_LINE, parse_response
from triosmtp.smtp.bdat import PendingBdat, bdat_error
from triosmtp.smtp.body import BodyDecoder, decode_whole_body
from triosmtp.smtp.command import (
    BAD_COMMAND,
    COMMANDS,
    END_OF_BODY,
    END_OF_CHUNK,
    FATAL,
    IN_ORDER,
    RESPONSE,
    Command,
    State,
    trusted_command,
)
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError
from triosmtp.smtp.fixed_replies import (
    BAD_SEQUENCE,
    INJECTION,
    TLS_FIRST,
    TOO_LONG,
    TOO_MANY_ERRORS,
    TOO_MUCH_JUNK,
    begins_like_bdat,
    loggable_line,
    unknown_command,
)
from triosmtp.smtp.line import check_line, is_plain_line, match_plain_line
from triosmtp.smtp.protocol_event import (
    NEED_DATA,
    PAUSED,
    BadCommand,
    BodyChunk,
    BodyEnd,
    ChunkEnd,
    ConnectionEnded,
    Event,
    Pause,
    ProtocolFailure,
    SwitchToTLS,
)
from triosmtp.smtp.reply import Reply
from triosmtp.smtp.responder import Responder

__all__ = ["Connection"]

MAX_LINE_SHOWN = 512  # octets of a line that a BadCommand carries

# Members of an Enum are slow to look up in Python 3.11, and every event needs these.
_BODY, _SWITCHING, _CLOSED = State.BODY, State.SWITCHING, State.CLOSED
_REFUSED, _CHUNK, _CHUNKS, _AUTH = State.REFUSED, State.CHUNK, State.CHUNKS, State.AUTH
_UNCLEAN = (
    State.MAIL,
    State.RCPT_REFUSED,
    State.RCPT,
    State.CHUNKS,
    State.AUTH,
    State.BODY,
    State.CHUNK,
    State.SWITCHING,
)

_NAMES = {verb: verb.decode("ascii") for verb in COMMANDS}

_STARTTLS = COMMANDS[b"STARTTLS"]
_AFTER_REFUSAL = frozenset({b"QUIT", b"BDAT"})  # octets follow BDAT, which must not be taken for commands


class Connection(Responder):
    """One connection, from the banner to its end.  The outcome of every input is an event."""

    __slots__ = ("_chunk", "_chunk_left", "_discarded_size", "_ended", "commands")

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__(settings)
        self.commands: dict[str, int] = defaultdict(int)
        """Counts of commands by verb.  Lines that are not a known command count as ``other``."""
        self._discarded_size = 0  # octets of a line that is too long
        self._ended = False  # the peer closed
        self._chunk: PendingBdat | None = None
        self._chunk_left = 0  # octets of it that have not arrived

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take octets from the peer, or ``b""`` if it closed.  After the end of the dialogue they are discarded.

        :raises RuntimeError: after ``b""``, or during a TLS handshake.
        """
        if self.needs_data and data:
            self.needs_data = False
            self._buffer = bytes(data)  # no copy if it is bytes
            if self._dialogue.pipelined_after_refusal:
                self._dialogue.pipelined_after_refusal = False
            return
        self.needs_data = False
        if data and self._open and not self._buffer:
            self._buffer = bytes(data)
            if self._dialogue.pipelined_after_refusal and self.state is not _CHUNK:
                self._dialogue.pipelined_after_refusal = False
        elif self.state >= _SWITCHING:
            if self.state is _SWITCHING and data:
                raise RuntimeError("octets of a TLS handshake are not for the SMTP connection")
            self._ended = self._ended or not data
        elif self._ended:
            raise RuntimeError("the peer has closed already")
        elif data:
            # The buffer ends in the middle of a line, so that its rest was sent before the last reply was read.
            self._buffer = self._buffer[self._offset :] + data
            self._offset = 0
        else:
            self._ended = True
            self._open = self._shortcut = False

    def next_event(self) -> Event | Pause:
        """Return the next event, or why there is none: :data:`NEED_DATA` or :data:`PAUSED`."""
        if self._owed is not None:
            return PAUSED
        buffer, state = self._buffer, self.state
        if not buffer and state <= _BODY and self._shortcut:
            self.needs_data = True
            return NEED_DATA
        if state >= _BODY:
            return self._next_of_body()
        start = self._offset
        if not self._shortcut or (match := match_plain_line(buffer, start, start + self._max_line)) is None:
            return self._next_line()
        command = IN_ORDER[state].get(match[1])
        if command is None:
            return self._next_line()
        if match.end() == len(buffer):
            self._buffer = b""
            self._offset = 0
            self.needs_data = True
        elif command is _STARTTLS:
            return self._next_line()  # octets behind it are an error
        else:
            self._offset = match.end()
        return self._plain_event(command, match)

    def receive_event(self, data: bytes) -> Event | Pause:
        """Take octets as :meth:`receive_data` does, and return what :meth:`next_event` returns then.

        It costs less for nearly all octets: one usual command, or a short body.

        :raises RuntimeError: as :meth:`receive_data`.
        """
        if self.needs_data and self._owed is None:
            state = self.state
            if state < _BODY:
                match = is_plain_line(data)
                if match is not None and len(data) <= self._max_line:
                    verb, path, rest, argument = match.groups()
                    command = IN_ORDER[state].get(verb)
                    if command is not None:  # as next_event() and _plain_event() do
                        dialogue = self._dialogue
                        dialogue.pipelined_after_refusal = False
                        self._owed = command
                        self.commands[command.name] += 1
                        if command.junk and dialogue.errors.count_junk():
                            return self._too_much_junk()
                        try:
                            if path is not None:
                                return command.parse_path(path, rest, dialogue)
                            return command.parse(data[:-2], argument or b"", dialogue)
                        except CommandError as error:
                            return self._bad_command(error, loggable_line(data[:-2], secret=False))
            elif state is _BODY and self._body is None:
                body = decode_whole_body(data, self.settings)
                if body is not None:
                    self._owed = END_OF_BODY
                    return BodyEnd(len(body), None, body)
        self.receive_data(data)
        return self.next_event()

    def _plain_event(self, command: Command, match: re.Match[bytes]) -> Event:
        """Return the event of a plain line that is in sequence, as :meth:`_next_line` would."""
        self._owed = command
        self.commands[command.name] += 1
        if command.junk and self._dialogue.errors.count_junk():
            return self._too_much_junk()
        _, path, rest, argument = match.groups()
        try:
            if path is not None:
                return command.parse_path(path, rest, self._dialogue)
            return command.parse(match[0][:-2], argument or b"", self._dialogue)
        except CommandError as error:
            return self._bad_command(error, loggable_line(match[0][:-2], secret=False))

    def _next_line(self) -> Event | Pause:
        """Return the event of the next line, with all checks."""
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
                check_line(line)
                return parse_response(line)
            return self._command(line)
        except CommandError as error:
            if self.state is not _AUTH and begins_like_bdat(line):
                return self._fatal(error.reply, f"{error.reason}, in a BDAT, so that the end of its octets is unknown")
            return self._bad_command(error, loggable_line(line, secret=self.state is _AUTH))

    def _use(self, offset: int) -> None:
        """Mark the buffer as handled up to ``offset``."""
        if offset == len(self._buffer):
            self._buffer = b""
            self._offset = 0
        else:
            self._offset = offset

    # Lines and commands

    def _command(self, line: bytes) -> Event | Pause:
        """Parse one line into its event; its reply is owed."""
        settings, dialogue, state = self.settings, self._dialogue, self.state
        if settings.allow_trailing_whitespace and line.endswith((b" ", b"\t")) and not begins_like_bdat(line):
            line = line.rstrip(b" \t")
        check_line(line)
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        self.commands[_NAMES.get(verb, "other")] += 1
        if state is _REFUSED and verb not in _AFTER_REFUSAL:
            raise CommandError(BAD_SEQUENCE, "a command after the banner refused the client")
        if verb == b"BDAT":
            return self._begin_chunk(line, argument)
        command = self._owed = COMMANDS.get(verb) or trusted_command(verb, settings)
        if command is None or line.endswith(b" "):
            raise unknown_command(command, verb)
        row = command
        if self._refusal is not None and verb != b"QUIT":
            raise CommandError(self._refusal, "all commands are refused")
        if settings.require_tls and not (dialogue.tls or row.before_tls):
            raise CommandError(TLS_FIRST, "TLS is required")
        move = row.transitions.get(state)
        if move is None or (self._switch_due and move in {_BODY, _SWITCHING}):
            raise row.out_of_sequence(state, dialogue)
        if row.junk and dialogue.errors.count_junk():
            return self._too_much_junk()
        event = row.parse(line, argument, dialogue)
        refuse_removed(event, settings)
        if move is _SWITCHING and settings.starttls_injection == "reject" and self._offset < len(self._buffer):
            return self._injection("STARTTLS injection: plaintext input after STARTTLS")
        return event

    def _too_much_junk(self) -> ProtocolFailure:
        return self._fatal(TOO_MUCH_JUNK, "too many commands that do nothing for a message")

    def _begin_chunk(self, line: bytes, argument: bytes) -> Event | Pause:
        """Begin to take the octets that follow BDAT.  They are not commands, also if BDAT is refused."""
        dialogue, before = self._dialogue, self.state
        chunk = parse_bdat(line, argument, dialogue)
        refused = bdat_error(dialogue, before, self._refusal, switch_due=self._switch_due)
        if not (chunk.size or chunk.last) and dialogue.errors.count_junk():
            return self._fatal(TOO_MUCH_JUNK, "too many empty chunks")
        self._chunk = PendingBdat(line, before, chunk.last, refused)
        self._chunk_left = chunk.size
        if refused is not None:
            if chunk.size > self.settings.max_discarded_size:
                return self._fatal(refused.reply, f"{refused.reason}, and {chunk.size} octets to discard")
            self._enter(_CHUNK)
            return self._next_of_chunk()
        first = before is not _CHUNKS
        if first:
            self._body = BodyDecoder(self.settings, binary=dialogue.binary)
        self._enter(_CHUNK)
        return evolve(chunk, first=first)

    def _bad_command(self, error: CommandError, line: bytes) -> BadCommand | ProtocolFailure:
        reply = self._refusal or error.reply
        if reply is TOO_MANY_ERRORS or reply is TOO_MUCH_JUNK:
            return self._fatal(reply, "too many commands were refused")
        self._counted = True
        if error.counts and self._dialogue.errors.count_error():
            return self._fatal(TOO_MANY_ERRORS, f"too many errors, the last one: {error.reason}")
        self._owed = self._owed or BAD_COMMAND
        self._error = reply
        return BadCommand(reply, line[:MAX_LINE_SHOWN], error.reason)

    def _fatal(self, reply: Reply, reason: str) -> ProtocolFailure:
        self._owed = FATAL
        self._error = reply
        return ProtocolFailure(reply, reason)

    def _injection(self, reason: str) -> ProtocolFailure:
        return evolve(self._fatal(INJECTION, reason), injection=True)

    def _may_be_longer(self, end: int) -> bool:
        """Return whether the next line belongs to AUTH and is within the limit of AUTH lines."""
        dialogue, start = self._dialogue, self._offset
        if self._skipped or not dialogue.mechanisms:
            return False
        if self.state is not _AUTH and self._buffer[start : start + 5].upper() != b"AUTH ":
            return False
        return (end if end >= 0 else len(self._buffer) - 1) - start <= MAX_AUTH_LINE - 2

    def _too_long(self, end: int) -> Event | Pause:
        """Discard a line that is too long, up to its CRLF at ``end``.  Keep its beginning for the log."""
        line = self._skipped or self._buffer[self._offset : self._offset + MAX_LINE_SHOWN]
        if begins_like_bdat(line) and self.state is not _AUTH:
            return self._fatal(TOO_LONG, "a line that begins like BDAT is too long")
        stop = end if end >= 0 else len(self._buffer) - self._buffer.endswith(b"\r")
        self._discarded_size += stop - self._offset
        if self._discarded_size > self.settings.max_discarded_size:
            return self._fatal(TOO_LONG, f"{self._discarded_size} octets of a line that is too long")
        if end < 0:
            self._skipped = line
            self._shortcut = False
            self._offset = stop
            return self._without_input()
        self._skipped = b""
        self._update_shortcut()
        self._discarded_size = 0
        self._offset = end + 2
        self._owed = RESPONSE if self.state is _AUTH else None
        error = CommandError(TOO_LONG, f"a line of more than {self.settings.max_line} octets")
        return self._bad_command(error, loggable_line(line, secret=self.state is _AUTH))

    # The body, chunks, and the switch to TLS

    def _next_of_body(self) -> Event | Pause:
        if self.state is not _BODY:
            return self._next_without_line()
        body = self._body
        if body is None:
            body = self._body = BodyDecoder(self.settings)
        part = b""
        if self._buffer:
            part, self._offset = body.decode(self._buffer, self._offset)
            if self._offset == len(self._buffer):
                self._buffer = b""
                self._offset = 0
                self.needs_data = self._shortcut
        if body.error is not None and body.discarded_size > self.settings.max_discarded_size:
            return self._give_up(body)
        if body.ended:
            self._owed = END_OF_BODY
            self._error = body.error
            return BodyEnd(body.size, body.error, part)
        return BodyChunk(part) if part else self._without_input()

    def _next_without_line(self) -> Event | Pause:
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
        while self._chunk_left and body.discarded_size <= self.settings.max_discarded_size:
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
        self._error = body.error
        self._owed = END_OF_BODY if chunk.last else END_OF_CHUNK
        return (BodyEnd if chunk.last else ChunkEnd)(body.size, body.error)

    def _skip_chunk(self, chunk: PendingBdat, error: CommandError) -> Event | Pause:
        """Discard the octets of a BDAT that is refused.  Its size was compared with the limit before."""
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

    def _give_up(self, body: BodyDecoder) -> ProtocolFailure:
        """End a connection that continues to send a body after its error."""
        assert body.error is not None
        return self._fatal(body.error, f"{body.discarded_size} octets of a body that was refused")

    def _switch(self) -> Event:
        if self.settings.starttls_injection == "reject" and self._offset < len(self._buffer):
            return self._injection("STARTTLS injection: plaintext input before the reply to STARTTLS")
        self._switch_due = False
        self._buffer = self._skipped = b""
        self._offset = 0
        if self.state is not _SWITCHING:
            self._enter(_SWITCHING)
        return SwitchToTLS()

    def _without_input(self) -> Event | Pause:
        """Return the event if the buffer holds no complete one, and keep only its unhandled rest."""
        if self._switch_due:
            return self._switch()
        self._buffer = self._buffer[self._offset :]
        self._offset = 0
        if not self._ended:
            return NEED_DATA
        clean = not (self._buffer or self._skipped or self.state in _UNCLEAN)
        self.close()
        return ConnectionEnded(clean)
