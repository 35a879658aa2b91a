"""The log on stderr: one line an event, in which no text of a peer can forge a line or a field.

Two forms: ``key=value`` for whoever reads, and a JSON object a line for programs.
"""

import json
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, TypeAlias

from attrs import frozen

from triosmtp.event import (
    AuthAttempted,
    CertificateExpiring,
    CertificateReloadFailed,
    CertificatesReloaded,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    Connected,
    ConnectionRefused,
    Disconnected,
    MessageAccepted,
    MessageRefused,
    PeerAnnounced,
    PolicyClientConnected,
    PolicyClientDisconnected,
    PolicyClientRefused,
    PolicyFailed,
    PolicyFallback,
    Refused,
    RevocationListExpired,
    ServerCertificatePresented,
    ServerDraining,
    ServerEnded,
    ServerEvent,
    ServerStarted,
    SessionInfo,
    ShadowDiffered,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.logs.non_blocking_writer import Outlet
from triosmtp.logs.repeat_filter import Fold
from triosmtp.variables import TLSInfo

__all__ = [
    "EventLines", "EventLog", "Form", "Record", "configure", "describe", "formatter_of", "loss_note", "text_of",
]  # fmt: skip

_log = logging.getLogger("triosmtp")

Form: TypeAlias = Literal["text", "json"]
"""How lines are written."""

_DEFERRED: Final = (Connected, TLSEstablished, Disconnected)
"""What may be in the log a moment later.  All else is there before the client hears of it, or anything blocks."""
_LEVELS: Final = {level: logging.getLevelName(level).lower() for level in (10, 20, 30, 40, 50)}
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch
_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode
"""Made once: json.dumps makes an encoder for each call that asks for more than the defaults."""


@frozen(slots=True)
class Record:
    """What a line says: the name of the event, and its fields, without those that say nothing."""

    name: str
    fields: dict[str, object]
    details: tuple[str, ...] = ()
    """Lines that stand below it; in JSON a list."""


class _OneRecord(logging.Formatter):
    """A record is one line, or one line and what is indented below it: a peer's words in a traceback forge none."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return "\n    ".join(
            "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line) for line in lines
        )


class _OneObject(logging.Formatter):
    """A record is a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return _encode(fields)


def configure(stream: TextIO | Outlet, level: int = logging.INFO, form: Form = "text") -> None:
    """Send the log to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter_of(form))
    _log.addHandler(handler)
    _log.setLevel(level)
    _log.propagate = False
    # What no formatter here prints need not be looked up for each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def formatter_of(form: Form, text: str = "%(asctime)s %(levelname)s %(message)s") -> logging.Formatter:
    """Return what formats log records; ``text`` is how, in the text form."""
    return _OneObject() if form == "json" else _OneRecord(text)


def loss_note(form: Form, lines: int, reason: str) -> str:
    """Give the line that stands where others were lost."""
    text = f"{lines} lines of this log were lost: {reason}"
    return formatter_of(form).format(logging.LogRecord(_log.name, logging.WARNING, "", 0, text, None, None)) + "\n"


class EventLines(ABC):
    """Makes a line of each event, in the form that :func:`configure` gives to every other record.

    The machinery of ``logging`` costs as much for one line as two SMTP commands, and there is a line for each message.
    """

    def __init__(self, level: int = logging.INFO, form: Form = "text") -> None:
        self._level = level
        self._json = form == "json"
        self._second = -1
        self._date = ""  # of that second, as the form has it
        self._fold = Fold()

    def __call__(self, event: ServerEvent) -> None:
        """Write ``event``, if its level is high enough and its session did not repeat it too often."""
        for each, more in self._fold(event):
            self._write(each, more)

    def _write(self, event: ServerEvent, more: int) -> None:
        level, describe = _LINES[type(event)]
        if level < self._level:
            return
        record, now = describe(event), time.time()
        if more:
            record.fields["folded"] = more
        self._put(event, level, self._object(level, record, now) if self._json else self._text(level, record, now))

    @abstractmethod
    def _put(self, event: ServerEvent, level: int, line: str) -> None:
        """Take a line."""

    def _text(self, level: int, record: Record, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        milliseconds = int((now - second) * 1000)
        return f"{self._date},{milliseconds:03d} {logging.getLevelName(level)} {text_of(record)}\n"

    def _object(self, level: int, record: Record, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._date = second, _iso(second).partition(".")[0]
        fields = {
            "time": f"{self._date}.{int((now - second) * 1000):03d}+00:00",
            "level": _LEVELS[level],
            "event": record.name,
            **record.fields,
        }
        if record.details:
            fields["details"] = record.details
        # Beside the ASCII that JSON is written in by default there is nothing that any reader takes for a line's end.
        return _encode(fields) + "\n"


class EventLog(EventLines):
    """Writes the lines of events to a text stream."""

    def __init__(self, stream: TextIO | Outlet, level: int = logging.INFO, form: Form = "text") -> None:
        super().__init__(level, form)
        self._stream = stream

    def _put(self, event: ServerEvent, _level: int, line: str) -> None:
        if isinstance(self._stream, Outlet) and type(event) in _DEFERRED:
            self._stream.defer(line)
        else:
            self._stream.write(line)
            self._stream.flush()


def text_of(record: Record) -> str:
    """Return the text form of a record, without time and level: a line, and its details below it."""
    line = " ".join([record.name, *(f"{key}={_quoted(key, value)}" for key, value in record.fields.items())])
    return "\n    ".join((line, *record.details))


def describe(event: ServerEvent) -> Record:
    """Give what the log says of ``event``."""
    return _LINES[type(event)][1](event)


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def _line(name: str, /, **fields: object) -> Record:
    # Nothing said is None, "" or (); a zero says something, and so does a sender that is empty: it is a report.
    # None at "from" says that no sender is known.
    return Record(
        name, {key: value for key, value in fields.items() if value or value == 0 or (key == "from" and value == "")}
    )


def _quoted(key: str, value: object) -> str:
    """Give ``value`` as it is where it is ASCII without blanks, else as a JSON string: all but plain ASCII escaped."""
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    if key == "from":
        text = f"<{text}>"
    return text if _PLAIN(text) else json.dumps(text)


def _tls_fields(tls: TLSInfo | None) -> dict[str, object]:
    if tls is None:
        return {"tls": "off"}
    return {
        "tls": tls.protocol,
        "cipher": tls.cipher,
        "group": tls.group,
        "verified": "yes" if tls.verified else "no",
        "verify_error": tls.verify_error,
        "client": tls.client_subject,
    }


def _session(info: SessionInfo) -> dict[str, str]:
    return {"session": info.id, "peer": info.peer, "listener": info.listener}


def _connected(e: Connected) -> Record:
    return _line("connected", **_session(e.session))


def _peer_announced(e: PeerAnnounced) -> Record:
    return _line("peer-announced", **_session(e.session), real_peer=e.real_peer, by=e.by)


def _connection_refused(e: ConnectionRefused) -> Record:
    return _line("connection-refused", peer=e.peer, listener=e.listener, reason=e.reason)


def _tls_established(e: TLSEstablished) -> Record:
    fields = _tls_fields(e.tls)
    return _line("tls", **_session(e.session), seconds=round(e.tls.handshake_seconds, 4), **fields)


def _server_certificate_presented(e: ServerCertificatePresented) -> Record:
    tls = {"verified": "yes" if e.tls.verified else "no", "client": e.tls.client_subject}
    return _line("server-certificate", **_session(e.session), **tls)


def _tls_failed(e: TLSFailed) -> Record:
    return _line("tls-failed", **_session(e.session), reason=e.reason, detail=e.detail)


def _refused(e: Refused) -> Record:
    return _line(
        "refused",
        **_session(e.session),
        phase=e.phase,
        **{"from": e.sender, "to": e.recipients},
        code=e.code,
        enhanced=e.enhanced,
        text=e.text,
        decided_by=e.decided_by,
        reason=e.reason if e.reason != e.text else None,
    )


def _auth_attempted(e: AuthAttempted) -> Record:
    return _line(
        "auth",
        **_session(e.session),
        mechanism=e.mechanism,
        user=e.user,
        result="pass" if e.succeeded else "fail",
        decided_by=e.decided_by,
        reason=e.reason,
    )


def _policy_failed(e: PolicyFailed) -> Record:
    told = {"phase": e.phase, "policy": e.policy, "error": e.error}
    return _line("policy-failed", session=e.session.id, listener=e.session.listener, **told)


def _policy_fallback(e: PolicyFallback) -> Record:
    fields = {"phase": e.phase, "group": e.group, "fallback": e.fallback, "failure": e.failure}
    return _line("policy-fallback", session=e.session.id, listener=e.session.listener, **fields)


def _policy_client_connected(e: PolicyClientConnected) -> Record:
    return _line("policy-client-connected", **_policy_client(e))


def _policy_client_disconnected(e: PolicyClientDisconnected) -> Record:
    return _line("policy-client-disconnected", **_policy_client(e), reason=e.reason, seconds=round(e.seconds, 3))


def _policy_client(e: PolicyClientConnected | PolicyClientDisconnected) -> dict[str, object]:
    return {"name": e.name, "group": e.group, "role": e.role, "mode": e.mode, "peer": e.peer, "listener": e.listener}


def _policy_client_refused(e: PolicyClientRefused) -> Record:
    return _line("policy-client-refused", peer=e.peer, listener=e.listener, reason=e.reason)


def _shadow_differed(e: ShadowDiffered) -> Record:
    fields = {"phase": e.phase, "group": e.group, "name": e.name, "answer": e.answer, "outcome": e.outcome}
    return _line("policy-shadow", session=e.session.id, listener=e.session.listener, **fields)


def _message(e: MessageAccepted | MessageRefused) -> dict[str, object]:
    return {
        "session": e.session.id,
        "message": e.message,
        "peer": e.session.peer,
        "listener": e.session.listener,
        "helo": e.helo,
        "from": e.sender,
        "to": e.recipients,
        "size": e.size,
        "user": e.variables.get("auth_user") if e.variables.get("auth_status") == "pass" else None,
        "seconds": round(e.seconds, 4),
    }


def _message_accepted(e: MessageAccepted) -> Record:
    decided_by = e.discarded_by or "delivery"
    return _line("accepted", **_message(e), decided_by=decided_by, discarded_by=e.discarded_by, **_tls_fields(e.tls))


def _message_refused(e: MessageRefused) -> Record:
    return _line(
        "message-refused",
        **_message(e),
        code=e.code,
        enhanced=e.enhanced,
        text=e.text,
        decided_by=e.decided_by,
        reason=e.reason if e.reason != e.text else None,
        **_tls_fields(e.tls),
    )


def _disconnected(e: Disconnected) -> Record:
    seconds = round(e.seconds, 3)
    told = {"reason": e.reason, "detail": e.detail, "seconds": seconds, "messages": e.messages}
    return _line("disconnected", **_session(e.session), **told)


def _certificates_reloaded(e: CertificatesReloaded) -> Record:
    return _line(
        "certificates-reloaded",
        generation=e.generation,
        reason=e.reason,
        file=e.file,
        changed=e.changed,
        subject=e.subject,
        names=e.names,
        sha256=e.fingerprint_sha256,
        not_before=None if e.not_before is None else e.not_before.isoformat(),
        not_after=None if e.not_after is None else e.not_after.isoformat(),
        warnings="; ".join(e.warnings),
    )


def _certificate_reload_failed(e: CertificateReloadFailed) -> Record:
    return _line("certificate-reload-failed", file=e.file, option=e.option, reason=e.reason)


def _certificate_expiring(e: CertificateExpiring) -> Record:
    return _line("certificate-expiring", file=e.file, subject=e.subject, days=e.days, not_after=e.not_after.isoformat())


def _revocation_list_expired(e: RevocationListExpired) -> Record:
    return _line("revocation-list-expired", file=e.file, issuer=e.issuer, next_update=e.next_update.isoformat())


def _configuration_reloaded(e: ConfigurationReloaded) -> Record:
    return _line(
        "configuration-reloaded",
        path=e.path,
        reason=e.reason,
        opened=e.opened,
        closed=e.closed,
        kept=e.kept,
        sessions=e.sessions,
    )


def _configuration_reload_failed(e: ConfigurationReloadFailed) -> Record:
    fields: dict[str, object] = {"path": e.path, "reason": e.reason, "problems": len(e.problems)}
    # With their carets, on lines of their own: these are the operator's file, and no peer's words.
    details = tuple(part for problem in e.problems for part in str(problem).split("\n"))
    return Record("configuration-reload-failed", fields, details)


def _server_started(e: ServerStarted) -> Record:
    where = {"path": e.path, "listeners": e.listeners, "workers": e.workers}
    return _line("serving", version=e.version, process=e.process, **where)


def _server_draining(e: ServerDraining) -> Record:
    return _line("draining", sessions=e.sessions, grace=e.grace)


def _server_ended(e: ServerEnded) -> Record:
    return _line("ended", reason=e.reason, seconds=round(e.seconds, 3), sessions=e.sessions, messages=e.messages)


_LINES: Final[dict[type, tuple[int, Callable[[Any], Record]]]] = {
    Connected: (logging.DEBUG, _connected),
    PeerAnnounced: (logging.INFO, _peer_announced),
    ConnectionRefused: (logging.WARNING, _connection_refused),
    TLSEstablished: (logging.INFO, _tls_established),
    ServerCertificatePresented: (logging.INFO, _server_certificate_presented),
    TLSFailed: (logging.WARNING, _tls_failed),
    Refused: (logging.INFO, _refused),
    AuthAttempted: (logging.INFO, _auth_attempted),
    PolicyFailed: (logging.DEBUG, _policy_failed),  # the traceback was logged where it failed
    PolicyFallback: (logging.WARNING, _policy_fallback),
    PolicyClientConnected: (logging.INFO, _policy_client_connected),
    PolicyClientDisconnected: (logging.INFO, _policy_client_disconnected),
    PolicyClientRefused: (logging.WARNING, _policy_client_refused),
    ShadowDiffered: (logging.INFO, _shadow_differed),
    MessageAccepted: (logging.INFO, _message_accepted),
    MessageRefused: (logging.INFO, _message_refused),
    Disconnected: (logging.INFO, _disconnected),
    CertificatesReloaded: (logging.INFO, _certificates_reloaded),
    CertificateReloadFailed: (logging.ERROR, _certificate_reload_failed),
    CertificateExpiring: (logging.WARNING, _certificate_expiring),
    RevocationListExpired: (logging.WARNING, _revocation_list_expired),
    ConfigurationReloaded: (logging.INFO, _configuration_reloaded),
    ConfigurationReloadFailed: (logging.ERROR, _configuration_reload_failed),
    ServerStarted: (logging.INFO, _server_started),
    ServerDraining: (logging.INFO, _server_draining),
    ServerEnded: (logging.INFO, _server_ended),
}
