"""What clients are told without having asked: events of the server, as methods and parameters of the protocol."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import Factory, frozen

from triosmtp.event import (
    AuthAttempted,
    CertificateExpiring,
    CertificateReloadFailed,
    CertificatesReloaded,
    ConfigurationReloaded,
    Connected,
    Disconnected,
    MessageAccepted,
    MessageRefused,
    PolicyFallback,
    Refused,
    ServerEvent,
    ShadowDiffered,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.policy_service.question import Excerpt

__all__ = ["EVENT_NOTIFICATIONS", "EventNotification"]


@frozen(slots=True)
class EventNotification:
    """A notification before it is encoded: contexts stand apart, because each client sees its own part of them."""

    method: str
    params: Mapping[str, Any]
    contexts: Mapping[str, Mapping[str, str]] = Factory(dict)
    """``variables`` and ``message_variables``."""
    excerpt: Excerpt | None = None
    """The message that it is about, for clients that asked for bodies alone."""


def _opened(e: Connected) -> EventNotification:
    return EventNotification("session.opened", {"local": e.session.local}, {"variables": e.variables})


def _tls(e: TLSEstablished) -> EventNotification:
    return EventNotification("session.tls", {}, {"variables": e.tls.variables()})


def _tls_failed(e: TLSFailed) -> EventNotification:
    return EventNotification("session.tls_failed", {"reason": e.reason, "detail": e.detail})


def _auth(e: AuthAttempted) -> EventNotification:
    result = "pass" if e.succeeded else "fail"
    return EventNotification("session.auth", {"mechanism": e.mechanism, "user": e.user, "result": result})


def _refused(e: Refused) -> EventNotification:
    params = {"phase": e.phase, "code": e.code, "enhanced": e.enhanced, "text": e.text, "decided_by": e.decided_by}
    return EventNotification("session.refused", params)


def _closed(e: Disconnected) -> EventNotification:
    return EventNotification(
        "session.closed", {"reason": e.reason, "seconds": round(e.seconds, 3), "messages": e.messages}
    )


def _message(e: MessageAccepted | MessageRefused) -> dict[str, Any]:
    return {"message": e.message, "sender": e.sender, "recipients": list(e.recipients), "size": e.size}


def _accepted(e: MessageAccepted) -> EventNotification:
    params = _message(e) | {"seconds": round(e.seconds, 6), "discarded_by": e.discarded_by or None}
    return EventNotification(
        "message.accepted", params, {"variables": e.variables, "message_variables": e.message_variables}
    )


def _message_refused(e: MessageRefused) -> EventNotification:
    told = {"code": e.code, "enhanced": e.enhanced, "text": e.text, "decided_by": e.decided_by}
    contexts = {"variables": e.variables, "message_variables": e.message_variables}
    return EventNotification("message.refused", _message(e) | told, contexts)


def _reloaded(e: CertificatesReloaded) -> EventNotification:
    return EventNotification(
        "certificates.reloaded",
        {
            "generation": e.generation,
            "reason": e.reason,
            "file": e.file,
            "subject": e.subject,
            "names": list(e.names),
            "fingerprint_sha256": e.fingerprint_sha256,
            "not_after": _time(e.not_after),
            "warnings": list(e.warnings),
        },
    )


def _reload_failed(e: CertificateReloadFailed) -> EventNotification:
    return EventNotification("certificates.reload_failed", {"file": e.file, "option": e.option, "reason": e.reason})


def _expiring(e: CertificateExpiring) -> EventNotification:
    params = {"file": e.file, "subject": e.subject, "days": e.days, "not_after": _time(e.not_after)}
    return EventNotification("certificates.expiring", params)


def _configuration(e: ConfigurationReloaded) -> EventNotification:
    return EventNotification("configuration.reloaded", {"path": e.path, "reason": e.reason})


def _fallback(e: PolicyFallback) -> EventNotification:
    params = {"phase": e.phase, "group": e.group, "fallback": e.fallback, "failure": e.failure}
    return EventNotification("policy.fallback", params)


def _shadow(e: ShadowDiffered) -> EventNotification:
    params = {"phase": e.phase, "group": e.group, "name": e.name, "answer": e.answer, "outcome": e.outcome}
    return EventNotification("policy.shadow", params)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


EVENT_NOTIFICATIONS: Final[Mapping[type[ServerEvent], Callable[[Any], EventNotification]]] = {
    AuthAttempted: _auth,
    CertificateExpiring: _expiring,
    CertificateReloadFailed: _reload_failed,
    CertificatesReloaded: _reloaded,
    ConfigurationReloaded: _configuration,
    Connected: _opened,
    Disconnected: _closed,
    MessageAccepted: _accepted,
    MessageRefused: _message_refused,
    PolicyFallback: _fallback,
    Refused: _refused,
    ShadowDiffered: _shadow,
    TLSEstablished: _tls,
    TLSFailed: _tls_failed,
}
"""Every event that clients are told of, with what they are told."""
