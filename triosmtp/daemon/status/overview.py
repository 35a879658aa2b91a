"""What an operator looks at: the last minutes in numbers, and the server as it is, joined to one value.

Events come in as they do to every observer; what is kept of them is bounded, and every text of a peer is cut.  One
event costs a few additions.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from triosmtp.daemon.status.source import Source
from triosmtp.event import (
    AuthAttempted,
    CertificateReloadFailed,
    CertificatesReloaded,
    ConfigurationReloaded,
    ConfigurationReloadFailed,
    ConnectionRefused,
    MessageAccepted,
    MessageRefused,
    Refused,
    SessionEvent,
    TLSEstablished,
    TLSFailed,
)

__all__ = ["Overview"]

WINDOW: Final = 300
"""Seconds that rates are kept for."""
_REFUSALS: Final = 50
_RELOADS: Final = 20
_REASONS: Final = 40
"""Reasons that are told apart; further ones are counted together."""
_SESSIONS: Final = 500
"""Sessions that are shown; of more only the number."""
_TEXT: Final = 200
"""Characters of one text."""
_SOON: Final = 21
"""Days before its end from which a certificate is marked."""


class _Second:
    """What happened in one second."""

    __slots__ = ("accepted", "established", "failed", "refused", "second")

    def __init__(self, second: int) -> None:
        self.second = second
        self.established: Counter[tuple[str, str]] = Counter()  # by version and group
        self.failed = self.accepted = self.refused = 0


class Overview:
    """An observer of the server, and what it has seen.  ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = clock()
        self._seconds: deque[_Second] = deque(maxlen=WINDOW)
        self._certificates = Counter({"verified": 0, "failed": 0, "absent": 0})
        self._reasons: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._refusals: deque[dict[str, Any]] = deque(maxlen=_REFUSALS)
        self._reloads: deque[dict[str, Any]] = deque(maxlen=_RELOADS)

    def __call__(self, event: SessionEvent) -> None:
        """Take note of ``event``."""
        note = _NOTES.get(type(event))
        if note is not None:
            note(self, event)

    async def gather(self, source: Source) -> dict[str, Any]:
        """Give all there is to see, as a value for JSON."""
        now = self._clock()
        sessions = await source.sessions()
        return {
            "time": now,
            "since": self._since,
            "ready": source.ready(),
            "state": source.state(),
            "workers": dict(source.workers()),
            "listeners": dict(source.sessions_by_listener()),
            "handshakes_under_way": source.handshakes_under_way(),
            "rates": self._rates(int(now)),
            "groups": dict(self._totals(1)),
            "versions": dict(self._totals(0)),
            "client_certificates": dict(self._certificates),
            "verify_errors": self._reasons.most_common(8),
            "tls_failures": self._failures.most_common(8),
            "certificates": [_certificate(each, now) for each in await source.certificates()],
            "certificate_problems": source.certificate_problems(),
            "reloads": list(self._reloads)[::-1],
            "sessions": [_session(each) for each in sessions[:_SESSIONS]],
            "sessions_total": len(sessions),
            "policy_groups": source.policy_groups(),
            "refusals": list(self._refusals)[::-1],
        }

    # The last minutes

    def _now(self) -> _Second:
        second = int(self._clock())
        if not self._seconds or self._seconds[-1].second != second:
            self._seconds.append(_Second(second))
        return self._seconds[-1]

    def _rates(self, now: int) -> dict[str, list[int]]:
        """Give, for each second of the window, the oldest first, what happened in it."""
        by_second = {each.second: each for each in self._seconds}
        empty = _Second(0)
        seconds = [by_second.get(each, empty) for each in range(now - WINDOW, now)]
        versions = sorted({version for each in seconds for version, _ in each.established})
        rates = {
            version: [sum(n for (name, _), n in each.established.items() if name == version) for each in seconds]
            for version in versions
        }
        rates["failed"] = [each.failed for each in seconds]
        rates["accepted"] = [each.accepted for each in seconds]
        rates["refused"] = [each.refused for each in seconds]
        return rates

    def _totals(self, part: int) -> list[tuple[str, int]]:
        found: Counter[str] = Counter()
        for each in self._seconds:
            for key, count in each.established.items():
                found[key[part]] += count
        return found.most_common(12)

    # Events

    def _established(self, e: TLSEstablished) -> None:
        tls = e.tls
        self._now().established[_short(tls.protocol), _short(tls.group or "none")] += 1
        outcome = "absent" if tls.client_certificate is None else "verified" if tls.verified else "failed"
        self._certificates[outcome] += 1
        if outcome == "failed":
            _count(self._reasons, tls.verify_error or "unknown")

    def _failed(self, e: TLSFailed) -> None:
        self._now().failed += 1
        _count(self._failures, e.reason)

    def _accepted(self, _event: MessageAccepted) -> None:
        self._now().accepted += 1

    def _message_refused(self, e: MessageRefused) -> None:
        self._now().refused += 1
        self._refuse(e.session, e.peer, "message", e.code, e.text, e.decided_by, e.reason)

    def _refused(self, e: Refused) -> None:
        self._refuse(e.session, e.peer, e.phase, e.code, e.text, e.decided_by, e.reason)

    def _connection_refused(self, e: ConnectionRefused) -> None:
        self._refuse("", e.peer, "connect", 421, "", "limit", e.reason)

    def _auth_attempted(self, e: AuthAttempted) -> None:
        if not e.succeeded:
            self._refuse(e.session, e.peer, "auth", 535, e.mechanism, e.decided_by, f"{e.user}: {e.reason}")

    def _refuse(self, session: str, peer: str, phase: str, code: int, text: str, decided_by: str, reason: str) -> None:
        self._refusals.append(
            {
                "time": self._clock(),
                "session": session,
                "peer": _short(peer),
                "phase": phase,
                "code": code,
                "text": _short(text),
                "decided_by": _short(decided_by),
                "reason": _short(reason),
            }
        )

    def _certificates_reloaded(self, e: CertificatesReloaded) -> None:
        self._reload("certificates", ok=True, what=e.file, text="; ".join(e.warnings) or f"in force ({e.reason})")

    def _certificates_failed(self, e: CertificateReloadFailed) -> None:
        self._reload("certificates", ok=False, what=e.file, text=e.reason)

    def _configuration_reloaded(self, e: ConfigurationReloaded) -> None:
        self._reload("configuration", ok=True, what=e.path, text=f"in force ({e.reason})")

    def _configuration_failed(self, e: ConfigurationReloadFailed) -> None:
        text = e.problems[0].message if e.problems else e.reason
        self._reload("configuration", ok=False, what=e.path, text=text)

    def _reload(self, kind: str, *, ok: bool, what: str, text: str) -> None:
        self._reloads.append(
            {"time": self._clock(), "kind": kind, "ok": ok, "what": _short(what), "text": _short(text)}
        )


_NOTES: Final[Mapping[type, Callable[[Overview, Any], None]]] = {
    TLSEstablished: Overview._established,  # noqa: SLF001 - the table of its own class
    TLSFailed: Overview._failed,  # noqa: SLF001
    MessageAccepted: Overview._accepted,  # noqa: SLF001
    MessageRefused: Overview._message_refused,  # noqa: SLF001
    Refused: Overview._refused,  # noqa: SLF001
    ConnectionRefused: Overview._connection_refused,  # noqa: SLF001
    AuthAttempted: Overview._auth_attempted,  # noqa: SLF001
    CertificatesReloaded: Overview._certificates_reloaded,  # noqa: SLF001
    CertificateReloadFailed: Overview._certificates_failed,  # noqa: SLF001
    ConfigurationReloaded: Overview._configuration_reloaded,  # noqa: SLF001
    ConfigurationReloadFailed: Overview._configuration_failed,  # noqa: SLF001
}


def _count(counter: Counter[str], reason: str) -> None:
    reason = _short(reason)
    counter[reason if reason in counter or len(counter) < _REASONS else "other"] += 1


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def _certificate(each: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Give a certificate with the days that it has left, and how bad that is."""
    not_after = each["not_after"]
    days = None
    if not_after is not None:
        days = int((datetime.fromisoformat(not_after).astimezone(UTC).timestamp() - now) // 86400)
    mark = "unknown" if days is None else "expired" if days < 0 else "soon" if days < _SOON else "fine"
    return {**each, "days": days, "mark": mark}


def _session(each: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: _shown(value) for key, value in each.items()}
    return {**shown, "tls_variables": {key: _shown(value) for key, value in each["tls_variables"].items()}}


def _shown(value: Any) -> Any:
    return _short(value) if isinstance(value, str) else value
