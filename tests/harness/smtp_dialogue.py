"""A client and a server in one: it feeds a Connection, replies to its events, and records both."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from triosmtp.smtp import (
    NEED_DATA,
    PAUSED,
    Bdat,
    BodyChunk,
    BodyEnd,
    Connection,
    ConnectionEnded,
    ConnectionSettings,
    Event,
    Pause,
    Reply,
    SwitchToTLS,
)

HOST = "mx.example.org"
ENVELOPE = ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")


class Dialogue:
    """``says`` returns the reply lines of the server; ``answers`` maps the name of an event to its replies in turn."""

    def __init__(self, *, banner: Reply | None = None, tls: bool = False, handshake: bool = True, **rules: Any) -> None:
        self.connection = Connection(ConnectionSettings(**{"hostname": HOST, **rules}))
        self.events: list[Event] = []
        self.answers: dict[str, list[Reply]] = {}
        self.handshake = handshake
        if tls:
            self.connection.tls_started()
        assert self.connection.next_event() is PAUSED
        self.banner = self.connection.send(banner)

    def says(self, *lines: str | bytes, size: int = 0) -> list[str]:
        """Send lines (str: a CRLF is added; bytes: as they are), ``size`` octets at a time, or all at once."""
        data = b"".join(line if isinstance(line, bytes) else line.encode() + b"\r\n" for line in lines)
        wire = b""
        size = size or len(data) or 1
        for start in range(0, len(data), size):
            if self.connection.closed:
                break
            wire += self.receives(data[start : start + size])
        return wire.decode().splitlines()

    def receives(self, data: bytes) -> bytes:
        """Receive octets, and answer events until there are no more."""
        return self.turn(self.connection.receive_event(data))

    def turn(self, first: Event | Pause | None = None) -> bytes:
        """Answer ``first`` and the events behind it until there are no more."""
        wire = b""
        event = self._next_event() if first is None else first
        while event is not NEED_DATA:
            assert event is not PAUSED, "every event was answered"
            self.events.append(event)
            if isinstance(event, ConnectionEnded):
                break
            if isinstance(event, SwitchToTLS):
                if not self.handshake:
                    break
                self.connection.tls_started()
            elif not isinstance(event, BodyChunk | Bdat):
                assert self.connection.next_event() is PAUSED
                replies = self.answers.get(type(event).__name__)
                wire += self.connection.send(replies.pop(0)) if replies else self.connection.accept()
            event = self._next_event()
        return wire

    def _next_event(self) -> Event | Pause:
        known = self.connection.needs_data
        event = self.connection.next_event()
        assert event is NEED_DATA or not known, "needs_data was wrong"
        return event

    def hangs_up(self) -> Event:
        self.connection.receive_data(b"")
        self.turn()
        return self.events[-1]

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    @property
    def body(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, BodyChunk | BodyEnd))


def codes(lines: Iterable[str]) -> list[int]:
    """Return the code of each reply."""
    return [int(line[:3]) for line in lines if line[3:4] != "-"]


def parts_of(event: Event) -> list[Event]:
    """Return the end of a body without its last part, and that before it."""
    if isinstance(event, BodyEnd) and event.data:
        return [BodyChunk(event.data), BodyEnd(event.size, event.error)]
    return [event]


def joined(events: Iterable[Event]) -> list[Event]:
    """Join adjacent parts of a body, since their cuts depend on the network."""
    result: list[Event] = []
    for event in chain.from_iterable(map(parts_of, events)):
        last = result[-1] if result else None
        if isinstance(event, BodyChunk) and isinstance(last, BodyChunk):
            result[-1] = BodyChunk(last.data + event.data)
        else:
            result.append(event)
    return result


def greeted(**rules: Any) -> Dialogue:
    """Return a dialogue after EHLO."""
    dialogue = Dialogue(**rules)
    dialogue.says("EHLO client.example")
    dialogue.events.clear()
    return dialogue
