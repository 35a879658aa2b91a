"""What goes between a session and those who decide about it elsewhere: plain values, fit to cross a process boundary.

A session asks a :class:`Question` and gets a :class:`Verdict`; what it came to in the end is an :class:`Outcome`.  The
hub (``hub.py``) stands between them and the clients; it knows sessions by these values and by a :class:`ServerAdmin`
alone.
"""

from collections.abc import Awaitable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

from attrs import field, frozen

from triosmtp.event import ServerEvent, SessionInfo
from triosmtp.policy.interface import Phase

__all__ = [
    "DecisionWord",
    "Excerpt",
    "Fallback",
    "Interest",
    "Outcome",
    "Question",
    "ServerAdmin",
    "Verdict",
    "fallback_verdict",
]

DecisionWord: TypeAlias = Literal["continue", "done", "reject", "tempfail", "discard", "disconnect"]
Fallback: TypeAlias = Literal["tempfail", "continue", "reject"]


@frozen(slots=True, kw_only=True)
class Question:
    """One phase of one session, as a decider is asked about it.

    ``variables`` and ``message_variables`` are copies; ``arguments`` are plain JSON values by the phase: ``domain`` at
    ehlo; ``mechanism``, ``user`` at auth; ``sender``, ``parameters`` at mailfrom; ``recipient``, ``parameters`` at
    rcptto; ``size``, ``headers`` at data_spool; ``recipient`` at data_spool_each_rcpt.
    """

    id: str
    """Unique: the session's id, a dash, and its number in the session."""
    session: str
    phase: Phase
    peer: str
    listener: str
    """The Listen's name, as it is written."""
    local: str = ""
    """The address that the client connected to; ``""`` in a recording."""
    variables: Mapping[str, str]
    message_variables: Mapping[str, str]
    arguments: Mapping[str, Any]
    password: str | None = field(default=None, repr=False)
    """At auth, where the client sent a readable one: for enforcing deciders behind a Unix socket or TLS alone."""

    @property
    def info(self) -> SessionInfo:
        """Return what events say of the session."""
        return SessionInfo(id=self.session, peer=self.peer, local=self.local, listener=self.listener)


@frozen(slots=True)
class Excerpt:
    """The beginning of a message, for a recording; ``size`` is that of the whole message."""

    data: bytes = field(repr=False)
    size: int


@frozen(slots=True, kw_only=True)
class Verdict:
    """What was decided about a :class:`Question`.  Checked: it can be applied as it stands."""

    decision: DecisionWord = "continue"
    code: int = 0
    """Of a refusal; 0 for the others."""
    enhanced: str = ""
    text: str = ""
    set_connection: Mapping[str, str | None] = field(factory=dict)
    """Variables of the connection context to set, or to remove (None)."""
    set_message: Mapping[str, str | None] = field(factory=dict)
    add_headers: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """Who decided: ``websocket:GROUP/NAME``, or ``websocket:GROUP`` for a fallback."""
    failure: str = ""
    """Why this is a fallback: ``timed out after 5 s``, ``no decider``, …; ``""`` for an answer."""


@frozen(slots=True, kw_only=True)
class Outcome:
    """What became of a phase in truth, all policies and built-in rules together."""

    decision: Literal["accepted", "refused"]
    code: int = 0
    enhanced: str | None = None
    text: str = ""
    decided_by: str = ""
    """As :class:`triosmtp.event.Refused` has it; ``""`` if nobody objected.

    Of an accepted message, the policy that had it thrown away.
    """
    excerpt: Excerpt | None = None
    """The message that ``data_spool`` was about, if somebody records it."""


_FALLBACKS: Final[Mapping[Fallback, tuple[int, str, str]]] = {
    "tempfail": (451, "4.3.0", "Local error in processing"),
    "reject": (550, "5.7.1", "Refused by policy"),
}
_AT_CONNECT: Final = {451: 421, 550: 554}


def fallback_verdict(group: str, question: Question, fallback: Fallback, failure: str) -> Verdict:
    """Give the verdict that stands in for the answer of ``group``, of which ``failure`` tells why there is none."""
    source = f"websocket:{group}"
    if fallback == "continue":
        return Verdict(source=source, failure=failure)
    code, enhanced, text = _FALLBACKS[fallback]
    if question.phase == "connect":
        code = _AT_CONNECT[code]
    return Verdict(decision="reject", code=code, enhanced=enhanced, text=text, source=source, failure=failure)


@frozen(slots=True, kw_only=True)
class Interest:
    """What the hub may want to be asked and told."""

    groups: Mapping[str, frozenset[Phase]] = field(factory=dict)
    """The phases at which each group is to be asked."""
    outcomes: frozenset[Phase] = frozenset()
    """The phases whose outcome somebody wants to know."""
    recorded_octets: int = 0
    """How many octets of each message somebody records."""


class ServerAdmin(Protocol):
    """The server (or, one day, all its workers) behind a hub.  Every value is plain JSON."""

    def emit(self, event: ServerEvent) -> None:
        """Tell the observers of the server what happened in the hub."""

    def sessions(self) -> Awaitable[list[dict[str, Any]]]:
        """Give ``{id, peer, listener, age, state, messages, tls}`` of every session under way."""

    def session(self, session: str) -> Awaitable[dict[str, Any] | None]:
        """Give the same of one session, with ``variables`` and ``message_variables``; None where there is none."""

    def set_variables(
        self, session: str, connection: Mapping[str, str | None], message: Mapping[str, str | None]
    ) -> Awaitable[bool]:
        """Set variables of a session, or remove them (None); False where there is no such session.

        :raises ValueError: where a key is the engine's alone; nothing was changed then.
        """

    def close_session(self, session: str) -> Awaitable[bool]:
        """End a session with 421 4.3.2 as soon as nothing is under way; False where there is none."""

    def certificates(self) -> Awaitable[list[dict[str, Any]]]:
        """Give ``{file, server_name, key, subject, issuer, names, fingerprint_sha256, not_before, not_after}``."""

    def body_part(self, question: str, session: str, start: int, size: int) -> Awaitable[tuple[bytes, int] | None]:
        """Return up to ``size`` octets of the message that a question is about, and the size of the whole message.

        None if that question is not open any more.

        :raises SpoolError: if the message cannot be read.
        """

    def reload_certificates(self) -> Awaitable[dict[str, Any]]:
        """Read the files of TLS again; give ``{generation, renewed, problems}``."""
