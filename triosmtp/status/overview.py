"""The overview for operators, as one value: counts of the last minutes and the last day, and the server as it is.

The overview is an observer of events.  It keeps a bounded amount of data and cuts the texts of peers.  An event costs a
few additions.
"""

import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from triosmtp.event import (
    AuthAttempted,
    CertificateReloadFailed,
    CertificatesReloaded,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    Connected,
    ConnectionRefused,
    Disconnected,
    MessageAccepted,
    MessageRefused,
    Refused,
    ServerEvent,
    SessionInfo,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.status.metric_label import OTHER, LabelNames
from triosmtp.status.refusals import Refusals, envelope_summary, host_of, shortened
from triosmtp.status.status_source import StatusSource
from triosmtp.status.time_series import KINDS, TimeSeries
from triosmtp.variables import TLSInfo
from triosmtp.version import versions

__all__ = ["Overview"]

_MINUTES: Final = 300
"""Seconds with a count of their own."""
_DAY: Final = (300, 288)
"""Seconds of an interval of the last day, and the number of intervals."""
_REFUSALS: Final = 100
_DELIVERIES: Final = 20
_RELOADS: Final = 20
_REASONS: Final = 40
"""Reasons that are counted separately; further ones are counted together."""
_SESSIONS: Final = 500
"""Sessions that are shown."""
_TLS: Final = 10_000
"""Sessions whose TLS is kept for their refusals."""
_SOON: Final = 21
"""Days before its end from which a certificate is marked."""


class Overview:
    """An observer of the server, and the data that it keeps.

    ``started`` is when the server was started, ``clock`` returns the present; both in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time, started: float | None = None) -> None:
        self._clock = clock
        self._since = clock()
        self._started = self._since if started is None else started
        self._minutes = TimeSeries(1, _MINUTES)
        self._day = TimeSeries(*_DAY)
        self._listener = LabelNames()
        self._totals: Counter[tuple[str, str]] = Counter()  # by Listen and kind
        self._certificates = Counter({"verified": 0, "failed": 0, "absent": 0})
        self._reasons: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._refusal_kinds: Counter[str] = Counter()
        self._refusals = Refusals(_REFUSALS)
        self._deliveries = Refusals(_DELIVERIES)
        self._reloads: list[dict[str, Any]] = []
        self._read = self._started
        self._configuration_problem: dict[str, Any] | None = None
        self._tls: OrderedDict[str, str] = OrderedDict()  # by session
        self._handlers = self._handler_table()
        self._host, self._version = socket.gethostname(), versions()["triosmtp"]

    def _handler_table(self) -> dict[type, Callable[[Any], None]]:
        return {
            Connected: self._connected,
            Disconnected: self._disconnected,
            TLSEstablished: self._established,
            TLSFailed: self._failed,
            MessageAccepted: self._accepted,
            MessageRefused: self._message_refused,
            Refused: self._refused,
            ConnectionRefused: self._connection_refused,
            AuthAttempted: self._auth_attempted,
            CertificatesReloaded: self._certificates_reloaded,
            CertificateReloadFailed: self._certificates_failed,
            ConfigurationReloaded: self._configuration_reloaded,
            ConfigurationReloadFailed: self._configuration_failed,
        }

    def __call__(self, event: ServerEvent) -> None:
        """Count ``event``."""
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    async def gather(self, source: StatusSource) -> dict[str, Any]:
        """Return the overview as a value for JSON."""
        now = self._clock()
        sessions = await source.sessions()
        return {
            **self._process(now, source),
            **self._traffic(now, source),
            "client_certificates": dict(self._certificates),
            "verify_errors": self._reasons.most_common(8),
            "tls_failures": self._failures.most_common(8),
            "certificates": sorted((_certificate(each, now) for each in await source.certificates()), key=_end),
            "problems": self._problems(source),
            "reloads": self._reloads[::-1],
            "sessions": [_session(each) for each in sessions[:_SESSIONS]],
            "sessions_total": len(sessions),
            "policy_groups": source.policy_groups(),
            "targets": [{key: _shown(value) for key, value in each.items()} for each in await source.targets()],
            "remembered_recipients": await source.remembered_recipients(),
            "lost_events": {name: lost for name, lost in source.lost_events().items() if lost},
            "refusals": self._refusals.latest(),
            "refusal_kinds": self._refusal_kinds.most_common(8),
            "delivery_failures": self._deliveries.latest(),
        }

    def _process(self, now: float, source: StatusSource) -> dict[str, Any]:
        return {
            "time": now,
            "since": self._since,
            "started": self._started,
            "host": self._host,
            "version": self._version,
            "ready": source.ready(),
            "state": source.state(),
            "workers": dict(source.workers()),
            "worker_deaths": source.worker_deaths(),
            "worker_list": source.worker_list(),
        }

    def _traffic(self, now: float, source: StatusSource) -> dict[str, Any]:
        groups: Counter[str] = Counter()
        tls_versions: Counter[str] = Counter()
        for bucket in self._minutes.last(now):
            for (version, group), count in bucket.handshakes.items():
                tls_versions[version] += count
                groups[group] += count
        return {
            "listeners": self._listeners(now, source),
            "handshakes_under_way": source.handshakes_under_way(),
            "handshakes_per_second": self._minutes.total(now, "established", 10) / 10,
            "per_minute": {kind: self._minutes.total(now, kind, 60) for kind in KINDS},
            "last_minutes": self._minutes.chart(now),
            "last_day": self._day.chart(now),
            "groups": dict(groups.most_common(12)),
            "versions": dict(tls_versions.most_common(12)),
        }

    def _listeners(self, now: float, source: StatusSource) -> list[dict[str, Any]]:
        """Return each Listen: sessions now, counts of the last minute, and counts since the overview began."""
        minute: Counter[tuple[str, str]] = Counter()
        for bucket in self._minutes.last(now, 60):
            minute.update(bucket.listeners)
        sessions: Counter[str] = Counter()
        for name, number in source.sessions_by_listener().items():
            sessions[self._listener(name)] += number
        return [
            {
                "listener": name,
                "sessions": number,
                "minute": {kind: minute[name, kind] for kind in KINDS},
                "total": {kind: self._totals[name, kind] for kind in KINDS},
            }
            for name, number in sessions.items()
        ]

    def _problems(self, source: StatusSource) -> list[dict[str, Any]]:
        """Return changes that are not in force because of an error, with what is in force instead."""
        found = [
            {
                "what": shortened(f"{each['option']} {each['file']}".strip()),
                "reason": shortened(each["reason"]),
                "since": datetime.fromisoformat(each["since"]).timestamp(),
                "in_force": [
                    {
                        "what": shortened(other["subject"]),
                        "read": datetime.fromisoformat(other["read"]).timestamp(),
                        "not_after": _timestamp(other["not_after"]),
                    }
                    for other in each["in_force"]
                ],
            }
            for each in source.certificate_problems()
        ]
        return found if self._configuration_problem is None else [*found, self._configuration_problem]

    # Events

    def _count(self, listener: str, kind: str) -> None:
        now, name = self._clock(), self._listener(listener) if listener else OTHER
        second = self._minutes.at(now)
        second.counts[kind] += 1
        second.listeners[name, kind] += 1
        self._day.at(now).counts[kind] += 1
        self._totals[name, kind] += 1

    def _connected(self, e: Connected) -> None:
        self._count(e.session.listener, "connected")

    def _disconnected(self, e: Disconnected) -> None:
        self._tls.pop(e.session.id, None)

    def _established(self, e: TLSEstablished) -> None:
        tls, now = e.tls, self._clock()
        self._count(e.session.listener, "established")
        kind = shortened(tls.protocol), shortened(tls.group or "none")
        self._minutes.at(now).handshakes[kind] += 1
        self._day.at(now).handshakes[kind] += 1
        outcome = "absent" if tls.client_certificate is None else "verified" if tls.verified else "failed"
        self._certificates[outcome] += 1
        if outcome == "failed":
            _tally(self._reasons, tls.verify_error or "unknown")
        if e.session.id:
            self._tls[e.session.id] = _tls_text(tls)
            if len(self._tls) > _TLS:
                self._tls.popitem(last=False)

    def _failed(self, e: TLSFailed) -> None:
        self._count(e.session.listener, "failed")
        _tally(self._failures, e.reason)

    def _accepted(self, e: MessageAccepted) -> None:
        self._count(e.session.listener, "accepted")

    def _message_refused(self, e: MessageRefused) -> None:
        self._refuse(e, "message", e.code, e.text, e.decided_by, envelope_summary(e.sender, e.recipients))

    def _refused(self, e: Refused) -> None:
        self._refuse(e, e.phase, e.code, e.text, e.decided_by, envelope_summary(e.sender, e.recipients))

    def _connection_refused(self, e: ConnectionRefused) -> None:
        self._refuse(e, "connect", 421, "", "limit", envelope_summary(None, ()))

    def _auth_attempted(self, e: AuthAttempted) -> None:
        if not e.succeeded:
            reason = f"{e.user}: {e.reason}"
            self._refuse(e, "auth", 535, e.mechanism, e.decided_by, envelope_summary(None, ()), reason)

    def _refuse(
        self,
        e: MessageRefused | Refused | ConnectionRefused | AuthAttempted,
        phase: str,
        code: int,
        text: str,
        decided_by: str,
        addresses: dict[str, Any],
        reason: str | None = None,
    ) -> None:
        info = SessionInfo(id="", peer=e.peer, listener=e.listener) if isinstance(e, ConnectionRefused) else e.session
        shown = {
            "session": info.id,
            "peer": shortened(info.peer),
            "listener": info.listener,
            "phase": phase,
            "code": code,
            "text": shortened(text),
            "decided_by": shortened(decided_by),
            "reason": shortened(e.reason if reason is None else reason),
            "tls": self._tls.get(info.id, ""),
            **addresses,
        }
        self._count(info.listener, "refused")
        _tally(self._refusal_kinds, f"{phase} {code} {decided_by}")
        if decided_by in {"delivery", "spool"}:
            self._count(info.listener, "undelivered")
            self._deliveries.add(self._clock(), (decided_by, code, shown["reason"]), shown)
        else:
            kind = host_of(shown["peer"]), info.listener, phase, code, shown["decided_by"]
            self._refusals.add(self._clock(), kind, shown)

    def _certificates_reloaded(self, e: CertificatesReloaded) -> None:
        self._reload("certificates", ok=True, what=e.file, text="; ".join(e.warnings) or f"in force ({e.reason})")

    def _certificates_failed(self, e: CertificateReloadFailed) -> None:
        self._reload("certificates", ok=False, what=e.file, text=e.reason)

    def _configuration_reloaded(self, e: ConfigurationReloaded) -> None:
        self._reload("configuration", ok=True, what=e.path, text=f"in force ({e.reason})")
        self._read, self._configuration_problem = self._clock(), None

    def _configuration_failed(self, e: ConfigurationReloadFailed) -> None:
        text = e.problems[0].message if e.problems else e.reason
        self._reload("configuration", ok=False, what=e.path, text=text)
        before = self._configuration_problem
        self._configuration_problem = {
            "what": shortened(f"configuration {e.path}"),
            "reason": shortened(text),
            "since": self._clock() if before is None else before["since"],
            "in_force": [{"what": "the configuration before", "read": self._read, "not_after": None}],
        }

    def _reload(self, kind: str, *, ok: bool, what: str, text: str) -> None:
        self._reloads.append(
            {"time": self._clock(), "kind": kind, "ok": ok, "what": shortened(what), "text": shortened(text)}
        )
        del self._reloads[:-_RELOADS]


def _tally(counter: Counter[str], reason: str) -> None:
    reason = shortened(reason)
    counter[reason if reason in counter or len(counter) < _REASONS else OTHER] += 1


def _tls_text(tls: TLSInfo) -> str:
    if tls.client_certificate is None:
        return f"{tls.protocol}, no certificate"
    if tls.verified:
        return f"{tls.protocol}, certificate verified"
    return shortened(f"{tls.protocol}, certificate not verified: {tls.verify_error or 'unknown'}")


def _certificate(each: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return a certificate with its remaining days and the mark that the page shows."""
    end = _timestamp(each["not_after"])
    days = None if end is None else int((end - now) // 86400)
    mark = "unknown" if days is None else "expired" if days < 0 else "soon" if days < _SOON else "fine"
    return {**each, "days": days, "mark": mark}


def _end(certificate: Mapping[str, Any]) -> float:
    days = certificate["days"]
    return float("-inf") if days is None else float(days)


def _timestamp(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).astimezone(UTC).timestamp()


def _session(each: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: _shown(value) for key, value in each.items()}
    return {**shown, "tls_variables": {key: _shown(value) for key, value in each["tls_variables"].items()}}


def _shown(value: Any) -> Any:
    return shortened(value) if isinstance(value, str) else value
