"""The messages between a supervisor and a worker.

A notification has no answer.  A request has one: a :class:`WorkerRequest` names its type.  Every message is a frozen
value.  The events of a server (:mod:`triosmtp.event`) are notifications, too: a worker sends each to the supervisor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from triosmtp.auth import MockKey
from triosmtp.config import Config
from triosmtp.delivery import TargetState
from triosmtp.limits.limit_reached import LimitReached
from triosmtp.limits.peer_count import PeerAddress
from triosmtp.policy_service.filter_registry import FilterAnswer, FilterKey, FilterQuestion, FilterUse
from triosmtp.policy_service.question import Fallback, Interest, Outcome, Question, Verdict
from triosmtp.server.local_sessions import ScriptAnswer
from triosmtp.server.tls_report import TLSReport
from triosmtp.tls import TLSSettings

__all__ = [
    "AdmitFilter",
    "AdmitHandshake",
    "AskFilter",
    "CloseSession",
    "Commit",
    "ConnectionClosed",
    "CountPeer",
    "Decide",
    "DescribeSession",
    "DiscardPrepared",
    "Drain",
    "FilterUsed",
    "HandshakeEnded",
    "HandshakeStarted",
    "InterestChanged",
    "ListSessions",
    "LogRecord",
    "PhaseEnded",
    "Ping",
    "Prepare",
    "ReadBodyPart",
    "ReloadCertificates",
    "ReportTLS",
    "ReportTargets",
    "RunScriptCommand",
    "SetVariables",
    "SlotsGranted",
    "SlotsRecalled",
    "SlotsReturned",
    "SlotsWanted",
    "TargetsChanged",
    "UncountPeer",
    "WorkerInit",
    "WorkerRequest",
]

T = TypeVar("T")


class WorkerRequest(Generic[T]):
    """A message that has an answer of type ``T``."""

    __slots__ = ()


# From the supervisor to a worker


@frozen(slots=True, kw_only=True)
class WorkerInit(WorkerRequest[int]):
    """The first message: make what the configuration names.  The answer is how many connections the worker can have."""

    config: Config
    generation: int
    """The number of the configuration; the supervisor counts them."""
    interest: Interest
    files: Mapping[TLSSettings, Mapping[Path, bytes | str]] = field(repr=False)
    """The files of the TLS contexts in force.  They may have changed since, or be unreadable for this user."""
    mock_key: MockKey
    """The key for mock credentials, which all workers share."""


@frozen(slots=True)
class Prepare(WorkerRequest[None]):
    """Make everything that ``config`` names, and change nothing."""

    config: Config


@frozen(slots=True)
class Commit:
    """Put in force what was prepared."""

    generation: int


@frozen(slots=True)
class DiscardPrepared:
    """Discard what was prepared."""


@frozen(slots=True)
class Drain:
    """End each session as soon as it has no transaction, and after ``grace`` seconds in any case."""

    grace: float


@frozen(slots=True)
class InterestChanged:
    """The questions and outcomes that policy clients want have changed."""

    interest: Interest


@frozen(slots=True)
class SlotsGranted:
    """The worker may have so many more connections to a target."""

    target: str
    number: int


@frozen(slots=True)
class SlotsRecalled:
    """Keep no more than ``keep`` connections to a target, None for all, and return so many that are unused."""

    target: str
    keep: int | None
    unused: int


@frozen(slots=True)
class Ping(WorkerRequest[None]):
    """Answer, after every message before this one was handled."""


@frozen(slots=True)
class ReloadCertificates(WorkerRequest[list[str]]):
    """Read the TLS files again.  The answer is what cannot be used."""

    reason: str


@frozen(slots=True)
class ReportTLS(WorkerRequest[TLSReport]):
    """Report the TLS contexts."""


@frozen(slots=True)
class ReportTargets(WorkerRequest[tuple[TargetState, ...]]):
    """Report the state of the targets."""


@frozen(slots=True)
class RunScriptCommand(WorkerRequest[ScriptAnswer | None]):
    """Run a command of the console that a script has registered.  The answer is None if no script has."""

    words: tuple[str, ...]


@frozen(slots=True)
class ListSessions(WorkerRequest[list[dict[str, Any]]]):
    """List the sessions."""


@frozen(slots=True)
class DescribeSession(WorkerRequest[dict[str, Any] | None]):
    """Describe one session."""

    session: str


@frozen(slots=True)
class SetVariables(WorkerRequest[bool]):
    """Set variables of a session, or remove those with the value None."""

    session: str
    connection: Mapping[str, str | None]
    message: Mapping[str, str | None]


@frozen(slots=True)
class CloseSession(WorkerRequest[bool]):
    """End a session as soon as it has no transaction."""

    session: str


@frozen(slots=True)
class ReadBodyPart(WorkerRequest[tuple[bytes, int] | None]):
    """Read a part of the message that a question is about."""

    question: str
    session: str
    start: int
    size: int


# From a worker to the supervisor


@frozen(slots=False)  # made and unpickled in half the time
class ConnectionClosed:
    """The connection with this number has ended."""

    number: int


@frozen(slots=False)  # made and unpickled in half the time
class HandshakeStarted:
    """A handshake has begun that the worker admitted itself."""

    session: str
    peer: PeerAddress | None


@frozen(slots=False)  # made and unpickled in half the time
class HandshakeEnded:
    """A handshake has ended."""

    session: str


@frozen(slots=True)
class UncountPeer:
    """Undo one :class:`CountPeer`."""

    option: str
    peer: PeerAddress | None


@frozen(slots=True)
class SlotsWanted:
    """The worker could use so many connections to a target, which may have ``limit`` of all workers."""

    target: str
    wanted: int
    limit: int


@frozen(slots=True)
class SlotsReturned:
    """The worker returns the right to so many connections to a target, and could use ``wanted``."""

    target: str
    number: int
    wanted: int


@frozen(slots=True)
class PhaseEnded:
    """The outcome of a policy phase."""

    question: Question
    outcome: Outcome


@frozen(slots=True)
class TargetsChanged:
    """Whether the targets are available has changed in a worker."""

    states: tuple[TargetState, ...]


@frozen(slots=True)
class LogRecord:
    """A log record: the supervisor alone writes the log."""

    fields: dict[str, Any]


@frozen(slots=True)
class AskFilter(WorkerRequest[FilterAnswer]):
    """Ask a filter."""

    question: FilterQuestion


@frozen(slots=True)
class AdmitFilter(WorkerRequest[str]):
    """A session is about to ask a filter itself.  The answer is why it may not, or ``""``."""

    filter: FilterKey


@frozen(slots=True)
class FilterUsed:
    """The report of a session about a filter that it asks itself."""

    use: FilterUse


@frozen(slots=True)
class Decide(WorkerRequest[Verdict]):
    """Ask the policy clients of ``group``."""

    group: str
    question: Question
    timeout: float
    fallback: Fallback


@frozen(slots=True)
class AdmitHandshake(WorkerRequest[LimitReached | None]):
    """Count a handshake.  The answer is the limit that refuses it."""

    session: str
    peer: PeerAddress | None
    per_peer: tuple[int, float] | None


@frozen(slots=True)
class CountPeer(WorkerRequest[bool]):
    """Count an event of a peer.  The answer is False if the limit is reached."""

    option: str
    peer: PeerAddress | None
    limit: tuple[int, float]
