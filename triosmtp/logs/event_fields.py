"""The level, the name and the fields of the log line of each event."""

import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

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
    LimitsStoreChanged,
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
    TargetChanged,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.variables import TLSInfo

__all__ = ["LINES", "Fields", "drop_empty_fields", "fields_of"]

Fields: TypeAlias = dict[str, object]
"""The fields of a line in their order.  ``details`` holds lines that follow it, in JSON a list."""


def fields_of(event: ServerEvent) -> Fields:
    """Return the fields of the line of ``event``: those that have a value."""
    return drop_empty_fields(LINES[type(event)][2](event))


def drop_empty_fields(fields: Fields) -> Fields:
    """Return ``fields`` without those whose value is None, ``""`` or ``()``.

    A zero is a value, and so is the empty sender of a delivery status notification.
    """
    values = fields.values()
    if None in values or "" in values or () in values:  # rare for frequent events, and cheaper than to look at each
        return {key: value for key, value in fields.items() if value or value == 0 or (key == "from" and value == "")}
    return fields


def _session(info: SessionInfo) -> Fields:
    return {"session": info.id, "peer": info.peer, "listener": info.listener}


def _tls(tls: TLSInfo) -> Fields:
    fields: Fields = {
        "tls": tls.protocol,
        "cipher": tls.cipher,
        "group": tls.group,
        "verified": "yes" if tls.verified else "no",
    }
    if tls.verify_error:
        fields["verify_error"] = tls.verify_error
    if tls.client_subject:
        fields["client"] = tls.client_subject
    return fields


def _connected(e: Connected) -> Fields:
    return _session(e.session)


def _peer_announced(e: PeerAnnounced) -> Fields:
    return {**_session(e.session), "real_peer": e.real_peer, "by": e.by}


def _connection_refused(e: ConnectionRefused) -> Fields:
    return {"peer": e.peer, "listener": e.listener, "reason": e.reason}


def _tls_established(e: TLSEstablished) -> Fields:
    return {**_session(e.session), "seconds": round(e.tls.handshake_seconds, 4), **_tls(e.tls)}


def _server_certificate_presented(e: ServerCertificatePresented) -> Fields:
    return {**_session(e.session), "verified": "yes" if e.tls.verified else "no", "client": e.tls.client_subject}


def _tls_failed(e: TLSFailed) -> Fields:
    return {**_session(e.session), "reason": e.reason, "detail": e.detail}


def _refused(e: Refused) -> Fields:
    return {
        **_session(e.session),
        "phase": e.phase,
        "from": e.sender,
        "to": e.recipients,
        "code": e.code,
        "enhanced": e.enhanced,
        "text": e.text,
        "decided_by": e.decided_by,
        "reason": e.reason if e.reason != e.text else None,
    }


def _auth_attempted(e: AuthAttempted) -> Fields:
    return {
        **_session(e.session),
        "mechanism": e.mechanism,
        "user": e.user,
        "result": "pass" if e.succeeded else "fail",
        "decided_by": e.decided_by,
        "reason": e.reason,
    }


def _phase(e: PolicyFailed | PolicyFallback | ShadowDiffered) -> Fields:
    return {"session": e.session.id, "listener": e.session.listener, "phase": e.phase}


def _policy_failed(e: PolicyFailed) -> Fields:
    return {**_phase(e), "policy": e.policy, "error": e.error}


def _policy_fallback(e: PolicyFallback) -> Fields:
    return {**_phase(e), "group": e.group, "fallback": e.fallback, "failure": e.failure}


def _shadow_differed(e: ShadowDiffered) -> Fields:
    return {**_phase(e), "group": e.group, "name": e.name, "answer": e.answer, "outcome": e.outcome}


def _policy_client_connected(e: PolicyClientConnected | PolicyClientDisconnected) -> Fields:
    return {"name": e.name, "group": e.group, "role": e.role, "mode": e.mode, "peer": e.peer, "listener": e.listener}


def _policy_client_disconnected(e: PolicyClientDisconnected) -> Fields:
    return {**_policy_client_connected(e), "reason": e.reason, "seconds": round(e.seconds, 3)}


def _policy_client_refused(e: PolicyClientRefused) -> Fields:
    return {"peer": e.peer, "listener": e.listener, "reason": e.reason}


def _message(e: MessageAccepted | MessageRefused) -> Fields:
    session = e.session
    fields: Fields = {
        "session": session.id,
        "message": e.message,
        "peer": session.peer,
        "listener": session.listener,
        "helo": e.helo,
        "from": e.sender,
        "to": e.recipients,
        "size": e.size,
    }
    if "client_name" in e.variables:
        fields["client_name"] = e.variables["client_name"]
    if e.variables.get("auth_status") == "pass":
        fields["user"] = e.variables.get("auth_user")
    fields["seconds"] = round(e.seconds, 4)
    return fields


def _message_accepted(e: MessageAccepted) -> Fields:
    fields = _message(e)
    fields["decided_by"] = e.discarded_by or "delivery"
    if e.discarded_by:
        fields["discarded_by"] = e.discarded_by
    if e.tls is None:
        fields["tls"] = "off"
    else:
        fields.update(_tls(e.tls))
    fields["answers"] = e.answers
    return fields


def _message_refused(e: MessageRefused) -> Fields:
    return {
        **_message(e),
        "code": e.code,
        "enhanced": e.enhanced,
        "text": e.text,
        "decided_by": e.decided_by,
        "reason": e.reason if e.reason != e.text else None,
        **({"tls": "off"} if e.tls is None else _tls(e.tls)),
        "answers": e.answers,
    }


def _disconnected(e: Disconnected) -> Fields:
    session = e.session
    fields: Fields = {"session": session.id, "peer": session.peer, "listener": session.listener, "reason": e.reason}
    if e.detail:
        fields["detail"] = e.detail
    fields["seconds"] = round(e.seconds, 3)
    fields["messages"] = e.messages
    return fields


def _certificates_reloaded(e: CertificatesReloaded) -> Fields:
    return {
        "generation": e.generation,
        "reason": e.reason,
        "file": e.file,
        "changed": e.changed,
        "subject": e.subject,
        "names": e.names,
        "sha256": e.fingerprint_sha256,
        "not_before": None if e.not_before is None else e.not_before.isoformat(),
        "not_after": None if e.not_after is None else e.not_after.isoformat(),
        "warnings": "; ".join(e.warnings),
    }


def _certificate_reload_failed(e: CertificateReloadFailed) -> Fields:
    return {"file": e.file, "option": e.option, "reason": e.reason}


def _certificate_expiring(e: CertificateExpiring) -> Fields:
    return {"file": e.file, "subject": e.subject, "days": e.days, "not_after": e.not_after.isoformat()}


def _revocation_list_expired(e: RevocationListExpired) -> Fields:
    return {"file": e.file, "issuer": e.issuer, "next_update": e.next_update.isoformat()}


def _configuration_reloaded(e: ConfigurationReloaded) -> Fields:
    return {
        "path": e.path,
        "reason": e.reason,
        "opened": e.opened,
        "closed": e.closed,
        "kept": e.kept,
        "sessions": e.sessions,
    }


def _configuration_reload_failed(e: ConfigurationReloadFailed) -> Fields:
    # With their carets, on lines of their own.  They quote the operator's file, and nothing that a peer sent.
    details = tuple(part for problem in e.problems for part in str(problem).split("\n"))
    return {"path": e.path, "reason": e.reason, "problems": len(e.problems), "details": details}


def _server_started(e: ServerStarted) -> Fields:
    return {
        "version": e.version,
        "process": e.process,
        "path": e.path,
        "listeners": e.listeners,
        "workers": e.workers,
    }


def _server_draining(e: ServerDraining) -> Fields:
    return {"sessions": e.sessions, "grace": e.grace}


def _limits_store_changed(e: LimitsStoreChanged) -> Fields:
    return {"store": e.store, "available": e.available, "reason": e.reason or None}


def _target_changed(e: TargetChanged) -> Fields:
    return {
        "target": e.target,
        "available": e.available,
        "failing_seconds": round(e.seconds, 3),
        "reason": e.reason or None,
    }


def _server_ended(e: ServerEnded) -> Fields:
    return {"reason": e.reason, "seconds": round(e.seconds, 3), "sessions": e.sessions, "messages": e.messages}


LINES: Final[dict[type, tuple[int, str, Callable[[Any], Fields]]]] = {
    Connected: (logging.DEBUG, "connected", _connected),
    PeerAnnounced: (logging.INFO, "peer-announced", _peer_announced),
    ConnectionRefused: (logging.WARNING, "connection-refused", _connection_refused),
    TLSEstablished: (logging.INFO, "tls", _tls_established),
    ServerCertificatePresented: (logging.INFO, "server-certificate", _server_certificate_presented),
    TLSFailed: (logging.WARNING, "tls-failed", _tls_failed),
    Refused: (logging.INFO, "refused", _refused),
    AuthAttempted: (logging.INFO, "auth", _auth_attempted),
    PolicyFailed: (logging.DEBUG, "policy-failed", _policy_failed),  # its traceback is in the log already
    PolicyFallback: (logging.WARNING, "policy-fallback", _policy_fallback),
    PolicyClientConnected: (logging.INFO, "policy-client-connected", _policy_client_connected),
    PolicyClientDisconnected: (logging.INFO, "policy-client-disconnected", _policy_client_disconnected),
    PolicyClientRefused: (logging.WARNING, "policy-client-refused", _policy_client_refused),
    ShadowDiffered: (logging.INFO, "policy-shadow", _shadow_differed),
    MessageAccepted: (logging.INFO, "accepted", _message_accepted),
    MessageRefused: (logging.INFO, "message-refused", _message_refused),
    Disconnected: (logging.INFO, "disconnected", _disconnected),
    CertificatesReloaded: (logging.INFO, "certificates-reloaded", _certificates_reloaded),
    CertificateReloadFailed: (logging.ERROR, "certificate-reload-failed", _certificate_reload_failed),
    CertificateExpiring: (logging.WARNING, "certificate-expiring", _certificate_expiring),
    RevocationListExpired: (logging.WARNING, "revocation-list-expired", _revocation_list_expired),
    ConfigurationReloaded: (logging.INFO, "configuration-reloaded", _configuration_reloaded),
    ConfigurationReloadFailed: (logging.ERROR, "configuration-reload-failed", _configuration_reload_failed),
    LimitsStoreChanged: (logging.WARNING, "limits-store", _limits_store_changed),
    TargetChanged: (logging.ERROR, "target", _target_changed),
    ServerStarted: (logging.INFO, "serving", _server_started),
    ServerDraining: (logging.INFO, "draining", _server_draining),
    ServerEnded: (logging.INFO, "ended", _server_ended),
}
"""The level and name of the line of each event, and the function that returns its fields, unfiltered."""
