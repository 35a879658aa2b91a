"""The notification for each event of the server: its method and parameters in the policy protocol."""

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
from triosmtp.policy_service.question import Excerpt, Outcome, Question

__all__ = ["EVENT_NOTIFICATIONS", "EventNotification", "phase_notification"]


@frozen(slots=True)
class EventNotification:
    """A notification that is not yet encoded.  Contexts are separate, because each client selects variables of them."""

    method: str
    params: Mapping[str, Any]
    contexts: Mapping[str, Mapping[str, str]] = Factory(dict)
    """``variables`` and ``message_variables``."""
    excerpt: Excerpt | None = None
    """The message of the notification, for clients that record bodies."""


def phase_notification(question: Question, outcome: Outcome) -> EventNotification:
    """Return ``session.phase``: a question and the outcome of its phase."""
    params = {
        "phase": question.phase,
        "arguments": question.arguments,
        "outcome": {
            "decision": outcome.decision,
            "code": outcome.code or None,
            "enhanced": outcome.enhanced,
            "text": outcome.text,
            "decided_by": outcome.decided_by,
        },
    }
    contexts = {"variables": question.variables, "message_variables": question.message_variables}
    return EventNotification("session.phase", params, contexts, outcome.excerpt)


def _connected(e: Connected) -> EventNotification:
    return EventNotification("session.opened", {"local": e.session.local}, {"variables": e.variables})


def _tls_established(e: TLSEstablished) -> EventNotification:
    return EventNotification("session.tls", {}, {"variables": e.tls.variables()})


def _tls_failed(e: TLSFailed) -> EventNotification:
    return EventNotification("session.tls_failed", {"reason": e.reason, "detail": e.detail})


def _auth_attempted(e: AuthAttempted) -> EventNotification:
    result = "pass" if e.succeeded else "fail"
    return EventNotification("session.auth", {"mechanism": e.mechanism, "user": e.user, "result": result})


def _refused(e: Refused) -> EventNotification:
    params = {"phase": e.phase, "code": e.code, "enhanced": e.enhanced, "text": e.text, "decided_by": e.decided_by}
    return EventNotification("session.refused", params)


def _disconnected(e: Disconnected) -> EventNotification:
    params = {"reason": e.reason, "seconds": round(e.seconds, 3), "messages": e.messages}
    return EventNotification("session.closed", params)


def _message(e: MessageAccepted | MessageRefused) -> dict[str, Any]:
    return {"message": e.message, "sender": e.sender, "recipients": list(e.recipients), "size": e.size}


def _message_accepted(e: MessageAccepted) -> EventNotification:
    params = _message(e) | {"seconds": round(e.seconds, 6), "discarded_by": e.discarded_by or None}
    contexts = {"variables": e.variables, "message_variables": e.message_variables}
    return EventNotification("message.accepted", params, contexts)


def _message_refused(e: MessageRefused) -> EventNotification:
    refusal = {"code": e.code, "enhanced": e.enhanced, "text": e.text, "decided_by": e.decided_by}
    contexts = {"variables": e.variables, "message_variables": e.message_variables}
    return EventNotification("message.refused", _message(e) | refusal, contexts)


def _certificates_reloaded(e: CertificatesReloaded) -> EventNotification:
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


def _certificate_reload_failed(e: CertificateReloadFailed) -> EventNotification:
    params = {"file": e.file, "option": e.option, "reason": e.reason}
    return EventNotification("certificates.reload_failed", params)


def _certificate_expiring(e: CertificateExpiring) -> EventNotification:
    params = {"file": e.file, "subject": e.subject, "days": e.days, "not_after": _time(e.not_after)}
    return EventNotification("certificates.expiring", params)


def _configuration_reloaded(e: ConfigurationReloaded) -> EventNotification:
    return EventNotification("configuration.reloaded", {"path": e.path, "reason": e.reason})


def _policy_fallback(e: PolicyFallback) -> EventNotification:
    params = {"phase": e.phase, "group": e.group, "fallback": e.fallback, "failure": e.failure}
    return EventNotification("policy.fallback", params)


def _shadow_differed(e: ShadowDiffered) -> EventNotification:
    params = {"phase": e.phase, "group": e.group, "name": e.name, "answer": e.answer, "outcome": e.outcome}
    return EventNotification("policy.shadow", params)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


EVENT_NOTIFICATIONS: Final[Mapping[type[ServerEvent], Callable[[Any], EventNotification]]] = {
    AuthAttempted: _auth_attempted,
    CertificateExpiring: _certificate_expiring,
    CertificateReloadFailed: _certificate_reload_failed,
    CertificatesReloaded: _certificates_reloaded,
    ConfigurationReloaded: _configuration_reloaded,
    Connected: _connected,
    Disconnected: _disconnected,
    MessageAccepted: _message_accepted,
    MessageRefused: _message_refused,
    PolicyFallback: _policy_fallback,
    Refused: _refused,
    ShadowDiffered: _shadow_differed,
    TLSEstablished: _tls_established,
    TLSFailed: _tls_failed,
}
"""The function that returns the notification of each event.  Clients do not receive other events."""
