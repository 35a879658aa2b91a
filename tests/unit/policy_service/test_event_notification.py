"""The method and the parameters of each event, as a policy client receives them, against the published schema."""

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
import trio
from policy_schema import DEFINITIONS, validate
from policy_stage import Raw, open_stage

from triosmtp import event
from triosmtp.event import ServerEvent, SessionInfo
from triosmtp.policy_service.event_notification import EVENT_NOTIFICATIONS
from triosmtp.policy_service.question import Outcome, Question
from triosmtp.variables import TLSInfo

SESSION = SessionInfo(id="s-1", peer="192.0.2.7:53211", local="192.0.2.1:25", listener=":25")
OF_SESSION = {"session": "s-1", "peer": "192.0.2.7:53211", "listener": ":25"}
TLS = TLSInfo(
    protocol="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    cipher_algbits=256,
    cipher_usebits=256,
    verify_error="no certificate presented",
)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CONTEXTS: dict[str, Any] = {"variables": {"ehlo_domain": "c"}, "message_variables": {"score": "3"}}
MESSAGE = {"message": "m-1", "sender": "", "recipients": ["b@example.com", "c@example.com"], "size": 9}
RECIPIENTS = ("b@example.com", "c@example.com")
REFUSAL: dict[str, Any] = {"code": 550, "enhanced": None, "text": "no", "decided_by": "relay"}

CASES: list[tuple[ServerEvent, str, dict[str, Any]]] = [
    (
        event.Connected(session=SESSION, variables={"a": "1"}),
        "session.opened",
        OF_SESSION | {"local": "192.0.2.1:25", "variables": {"a": "1"}},
    ),
    (
        event.TLSEstablished(session=SESSION, tls=TLS),
        "session.tls",
        OF_SESSION
        | {
            "variables": {
                "tls": "on",
                "tls_cipher": "TLS_AES_256_GCM_SHA384",
                "tls_cipher_algbits": "256",
                "tls_cipher_usebits": "256",
                "tls_client_verified": "no",
                "tls_client_verify_error": "no certificate presented",
                "tls_protocol": "TLSv1.3",
                "encryption_protocol": "TLSv1.3",
                "encryption_cipher": "TLS_AES_256_GCM_SHA384",
                "encryption_keysize": "256",
            }
        },
    ),
    (
        event.TLSFailed(session=SESSION, reason="alert", detail="unknown_ca"),
        "session.tls_failed",
        OF_SESSION | {"reason": "alert", "detail": "unknown_ca"},
    ),
    (
        event.AuthAttempted(session=SESSION, mechanism="PLAIN", user="joe", succeeded=True, decided_by="file"),
        "session.auth",
        OF_SESSION | {"mechanism": "PLAIN", "user": "joe", "result": "pass"},
    ),
    (
        event.AuthAttempted(session=SESSION, mechanism="LOGIN", user="", succeeded=False, reason="wrong password"),
        "session.auth",
        OF_SESSION | {"mechanism": "LOGIN", "user": "", "result": "fail"},
    ),
    (
        event.Refused(session=SESSION, phase="rcptto", reason="not for the client", **REFUSAL),
        "session.refused",
        OF_SESSION | {"phase": "rcptto"} | REFUSAL,
    ),
    (
        event.Disconnected(session=SESSION, reason="quit", seconds=1.23456, messages=2),
        "session.closed",
        OF_SESSION | {"reason": "quit", "seconds": 1.235, "messages": 2},
    ),
    (
        event.MessageAccepted(
            session=SESSION, message="m-1", sender="", recipients=RECIPIENTS, size=9, seconds=0.12345678, tls=TLS,
            **CONTEXTS,
        ),
        "message.accepted",
        OF_SESSION | MESSAGE | CONTEXTS | {"seconds": 0.123457, "discarded_by": None},
    ),
    (
        event.MessageAccepted(
            session=SESSION, message="m-1", sender="", recipients=RECIPIENTS, size=9, seconds=2.0, tls=None,
            discarded_by="python:P", **CONTEXTS,
        ),
        "message.accepted",
        OF_SESSION | MESSAGE | CONTEXTS | {"seconds": 2.0, "discarded_by": "python:P"},
    ),
    (
        event.MessageRefused(
            session=SESSION, message="m-1", sender="", recipients=RECIPIENTS, size=9, reason="not for the client",
            tls=None, **REFUSAL, **CONTEXTS,
        ),
        "message.refused",
        OF_SESSION | MESSAGE | REFUSAL | CONTEXTS,
    ),
    (
        event.CertificatesReloaded(
            generation=2, reason="watch", file="/c.pem", changed=("/c.pem",), subject="CN=mx", names=("dns:mx",),
            fingerprint_sha256="0" * 64, not_before=NOON, not_after=None, warnings=("old",),
        ),
        "certificates.reloaded",
        {
            "generation": 2, "reason": "watch", "file": "/c.pem", "subject": "CN=mx", "names": ["dns:mx"],
            "fingerprint_sha256": "0" * 64, "not_after": None, "warnings": ["old"],
        },
    ),
    (
        event.CertificateReloadFailed(file="/c.pem", option="TLS_Key", reason="does not match"),
        "certificates.reload_failed",
        {"file": "/c.pem", "option": "TLS_Key", "reason": "does not match"},
    ),
    (
        event.CertificateExpiring(file="/c.pem", subject="CN=mx", days=-1, not_after=NOON),
        "certificates.expiring",
        {"file": "/c.pem", "subject": "CN=mx", "days": -1, "not_after": "2026-01-02T12:00:00Z"},
    ),
    (
        event.ConfigurationReloaded(path="/e.conf", reason="SIGHUP", opened=(), closed=(), kept=(":25",), sessions=1),
        "configuration.reloaded",
        {"path": "/e.conf", "reason": "SIGHUP"},
    ),
    (
        event.PolicyFallback(session=SESSION, phase="data", group="fraud", fallback="tempfail", failure="no decider"),
        "policy.fallback",
        OF_SESSION | {"phase": "data", "group": "fraud", "fallback": "tempfail", "failure": "no decider"},
    ),
    (
        event.ShadowDiffered(session=SESSION, phase="data", group="fraud", name="n", answer="reject", outcome="250"),
        "policy.shadow",
        OF_SESSION | {"phase": "data", "group": "fraud", "name": "n", "answer": "reject", "outcome": "250"},
    ),
]  # fmt: skip

NOT_SENT = {
    event.ConfigurationReloadFailed,
    event.ConnectionRefused,
    event.LimitsStoreChanged,
    event.PeerAnnounced,
    event.PolicyClientConnected,
    event.PolicyClientDisconnected,
    event.PolicyClientRefused,
    event.PolicyFailed,
    event.RevocationListExpired,
    event.ServerCertificatePresented,
    event.ServerDraining,
    event.ServerEnded,
    event.ServerStarted,
    event.TargetChanged,
}
"""The events for the operator alone."""


async def read(raw: Raw) -> dict[str, Any]:
    """Return the next notification; fail if none is sent."""
    with trio.fail_after(10):
        return await raw.read()


def check_parameters(received: dict[str, Any], method: str, params: dict[str, Any]) -> None:
    """Assert that a notification has exactly these parameters, and that the schema describes each of them."""
    validate(method, received)
    head = {"sequence": received["params"]["sequence"], "time": received["params"]["time"]}
    assert received == {"jsonrpc": "2.0", "method": method, "params": head | params}
    assert set(received["params"]) <= set(DEFINITIONS[method]["properties"]["params"]["properties"])


@pytest.mark.parametrize(("emitted", "method", "params"), CASES)
async def test_a_client_receives_the_method_and_the_parameters_of_each_event(
    emitted: ServerEvent, method: str, params: dict[str, Any]
) -> None:
    async with open_stage("") as stage:
        raw = await stage.raw()
        await raw.initialize(notifications=[method])
        stage.hub.observe(emitted)
        check_parameters(await read(raw), method, params)


def test_each_event_is_sent_or_is_for_the_operator_alone() -> None:
    sent = {type(emitted) for emitted, _, _ in CASES}
    assert set(EVENT_NOTIFICATIONS) == sent
    assert sent | NOT_SENT == set(get_args(ServerEvent))


@pytest.mark.parametrize("code", [0, 550])
async def test_the_outcome_of_a_phase_has_a_code_only_if_it_refuses(code: int) -> None:
    question = Question(
        id="s-1-1", session="s-1", phase="data_spool", peer=SESSION.peer, listener=":25",
        arguments={"size": 4, "headers": []}, **CONTEXTS,
    )  # fmt: skip
    outcome = Outcome(
        decision="refused" if code else "accepted", code=code, enhanced="5.7.1" if code else None, text="x",
        decided_by="python:P",
    )  # fmt: skip
    expected = {
        "decision": outcome.decision, "code": code or None, "enhanced": outcome.enhanced, "text": "x",
        "decided_by": "python:P",
    }  # fmt: skip
    async with open_stage("") as stage:
        raw = await stage.raw()
        await raw.initialize(notifications=["session.phase"])
        stage.hub.report_outcome(question, outcome)
        params = {"phase": "data_spool", "arguments": {"size": 4, "headers": []}, "outcome": expected}
        check_parameters(await read(raw), "session.phase", OF_SESSION | params | CONTEXTS)
