"""The values between sessions and a hub: questions, verdicts and outcomes.  They are plain, and can be pickled.

A session asks a :class:`Question` and receives a :class:`Verdict`.  Later it reports the :class:`Outcome` of the phase.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen

from triosmtp.event import SessionInfo
from triosmtp.policy.interface import Phase

__all__ = [
    "DecisionWord",
    "Excerpt",
    "Fallback",
    "Interest",
    "Outcome",
    "Question",
    "Verdict",
    "decider_source",
    "fallback_reply",
    "fallback_verdict",
    "is_decider_source",
]

DecisionWord: TypeAlias = Literal["continue", "done", "reject", "tempfail", "discard", "disconnect"]
Fallback: TypeAlias = Literal["tempfail", "continue", "reject"]

_SOURCE: Final = "websocket:"


def decider_source(group: str, name: str = "") -> str:
    """Return the name of a decider in replies, events and recordings: ``websocket:GROUP/NAME``.

    Without ``name``, return that of the group: ``websocket:GROUP``.
    """
    return f"{_SOURCE}{group}/{name}" if name else f"{_SOURCE}{group}"


def is_decider_source(source: str) -> bool:
    """Return whether a decider or its group decided."""
    return source.startswith(_SOURCE)


@frozen(slots=True, kw_only=True)
class Question:
    """One phase of one session, as a decider is asked about it.

    ``variables`` and ``message_variables`` are copies.  ``arguments`` are plain JSON values:

    - at ehlo: ``domain``;
    - at auth: ``mechanism``, ``user``;
    - at mailfrom: ``sender``, ``parameters``;
    - at rcptto: ``recipient``, ``parameters``;
    - at data_spool: ``size``, ``headers``;
    - at data_spool_each_rcpt: ``recipient``.
    """

    id: str
    """A unique id: the id of the session, a dash, and a number."""
    session: str
    phase: Phase
    peer: str
    listener: str
    """The name of the Listen, as it is written."""
    local: str = ""
    """The address to which the client connected; ``""`` in a recording."""
    variables: Mapping[str, str]
    message_variables: Mapping[str, str]
    arguments: Mapping[str, Any]
    password: str | None = field(default=None, repr=False)
    """The password at auth, if the mechanism sends one.  Only enforcing deciders on a private connection receive it."""

    @property
    def info(self) -> SessionInfo:
        """The session, as events describe it."""
        return SessionInfo(id=self.session, peer=self.peer, local=self.local, listener=self.listener)


@frozen(slots=True)
class Excerpt:
    """The beginning of a message, for a recording; ``size`` is that of the whole message."""

    data: bytes = field(repr=False)
    size: int


@frozen(slots=True, kw_only=True)
class Verdict:
    """The decision about a :class:`Question`.  It is checked, and can be applied without further checks."""

    decision: DecisionWord = "continue"
    code: int = 0
    """The reply code of a refusal; else 0."""
    enhanced: str = ""
    text: str = ""
    set_connection: Mapping[str, str | None] = field(factory=dict)
    """Variables of the connection context to set, or to remove (None)."""
    set_message: Mapping[str, str | None] = field(factory=dict)
    add_headers: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """The decider, or for a fallback the group (:func:`decider_source`)."""
    failure: str = ""
    """The cause of a fallback, such as ``timed out after 5 s``; ``""`` for an answer."""


@frozen(slots=True, kw_only=True)
class Outcome:
    """The result of a phase, after all policies and built-in restrictions."""

    decision: Literal["accepted", "refused"]
    code: int = 0
    enhanced: str | None = None
    text: str = ""
    decided_by: str = ""
    """The policy or restriction that refused, as in :class:`triosmtp.event.Refused`; ``""`` if none did.

    For an accepted message: the policy that discarded it.
    """
    excerpt: Excerpt | None = None
    """The message of ``data_spool``, if a client records it."""


_FALLBACKS: Final[Mapping[Fallback, tuple[int, str, str]]] = {
    "tempfail": (451, "4.3.0", "Local error in processing"),
    "reject": (550, "5.7.1", "Refused by policy"),
}
_AT_CONNECT: Final = {451: 421, 550: 554}


def fallback_reply(phase: Phase, fallback: Fallback) -> tuple[int, str, str] | None:
    """Return the code, enhanced code and text with which a fallback refuses; None if it does not."""
    if fallback == "continue":
        return None
    code, enhanced, text = _FALLBACKS[fallback]
    return (_AT_CONNECT[code] if phase == "connect" else code), enhanced, text


def fallback_verdict(group: str, question: Question, fallback: Fallback, failure: str) -> Verdict:
    """Return the verdict that replaces the answer of ``group``; ``failure`` says why there is no answer."""
    source = decider_source(group)
    reply = fallback_reply(question.phase, fallback)
    if reply is None:
        return Verdict(source=source, failure=failure)
    code, enhanced, text = reply
    return Verdict(decision="reject", code=code, enhanced=enhanced, text=text, source=source, failure=failure)


@frozen(slots=True, kw_only=True)
class Interest:
    """The questions and outcomes that clients of a hub want."""

    groups: Mapping[str, frozenset[Phase]] = field(factory=dict)
    """The phases at which each group is asked."""
    outcomes: frozenset[Phase] = frozenset()
    """The phases whose outcome a client wants."""
    recorded_octets: int = 0
    """The bytes of each message that a client records."""
