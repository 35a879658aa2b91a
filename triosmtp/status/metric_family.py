"""The one table of metrics: every family with its name, kind, labels and a sentence that documents it.

Names follow https://prometheus.io/docs/practices/naming/: base units, and ``_total`` behind what only grows.
"""

from typing import Final, Literal, TypeAlias

from attrs import frozen

__all__ = ["FAMILIES", "MetricFamily", "MetricKind"]

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram"]


@frozen(slots=True)
class MetricFamily:
    """One row.  A counter's ``name`` ends with ``_total``."""

    name: str
    kind: MetricKind
    doc: str
    labels: tuple[str, ...] = ()


def _counter(name: str, doc: str, *labels: str) -> MetricFamily:
    return MetricFamily(f"triosmtp_{name}", "counter", doc, labels)


def _gauge(name: str, doc: str, *labels: str) -> MetricFamily:
    return MetricFamily(f"triosmtp_{name}", "gauge", doc, labels)


def _histogram(name: str, doc: str, *labels: str) -> MetricFamily:
    return MetricFamily(f"triosmtp_{name}", "histogram", doc, labels)


FAMILIES: Final[dict[str, MetricFamily]] = {
    row.name: row
    for row in (
        # The process
        _gauge("build_info", "1, with what runs in its labels.", "version", "python", "openssl"),
        _gauge(
            "ready",
            "Whether new connections are served: 1, or 0 while draining, while no worker is ready, or while a required "
            "target is not available.",
        ),
        _gauge("workers", "Workers, of those that there are to be: ready, or starting (again).", "state"),
        _counter("worker_deaths_total", "Workers that ended unasked."),
        _gauge("limits_store_available", "Whether the Limits_Store answered last; 1 without one."),
        _counter("limits_store_failures_total", "Times that the Limits_Store stopped answering."),
        _histogram(
            "event_loop_lag_seconds",
            "How much later than asked for the event loop came back to a task that slept, looked at twice a second.",
        ),
        _gauge("event_loop_lag_max_seconds", "The longest lag of the event loop within the last minute."),
        _counter(
            "events_lost_total",
            "Events that an observer lost because it does not keep up: policy clients, NATS, or a log.",
            "observer",
        ),
        # Targets
        _gauge("target_available", "Whether a target of mail is available: 0 after Delivery_Grace.", "target"),
        _gauge(
            "target_failing_seconds", "For how long a target fails; 0 if its latest answer was a success.", "target"
        ),
        _gauge("target_latency_seconds", "How long a target took for its latest answers, on average.", "target"),
        _gauge("target_connections", "Open connections to a target.", "target"),
        _counter(
            "target_answers_total", "Answers of a target for recipients by class, and its failures.", "target", "class"
        ),
        _gauge("remembered_recipients", "Recipients that have a message which the client must send again for others."),
        # Sessions
        _gauge("sessions", "Sessions under way.", "listener"),
        _counter("sessions_total", "Sessions that began.", "listener"),
        _counter("sessions_ended_total", "Sessions that ended, by how.", "reason"),
        _histogram("session_duration_seconds", "How long sessions took."),
        _counter(
            "connections_refused_total",
            "Connections turned away at a limit, by the option that sets it.",
            "listener",
            "reason",
        ),
        _counter("commands_total", "Commands, counted when their session ends, by verb.", "command"),
        _counter(
            "refusals_total",
            "Commands that were refused, by phase, reply code and who decided.",
            "listener",
            "phase",
            "code",
            "decided_by",
        ),
        _counter("auth_attempts_total", "Exchanges of AUTH that ended.", "listener", "mechanism", "result"),
        # TLS
        _counter("tls_handshakes_total", "TLS handshakes, by what became of them.", "listener", "result"),
        _gauge("tls_handshakes_under_way", "TLS handshakes under way."),
        _counter(
            "tls_established_total",
            "Handshakes that were completed, by protocol version, key exchange group and class of cipher.",
            "version",
            "group",
            "cipher",
        ),
        _counter("tls_failures_total", "Handshakes that came to nothing, by reason.", "listener", "reason"),
        _histogram("tls_handshake_duration_seconds", "How long completed handshakes took."),
        _counter(
            "tls_client_certificates_total",
            "Completed handshakes by the client's certificate: verified, failed (and why), or absent.",
            "listener",
            "outcome",
            "reason",
        ),
        _counter(
            "tls_server_certificates_total",
            "Client certificates that verify only for the purpose of a server: admitted by TLS_Client_Purpose, or not.",
            "listener",
            "outcome",
        ),
        # Certificates and reloads
        _gauge(
            "certificate_expiry_timestamp_seconds",
            "When a certificate of the server's in force ends, in Unix time.",
            "file",
            "key",
            "server_name",
        ),
        _gauge(
            "revocation_list_expiry_timestamp_seconds",
            "When the first list of a file of TLS_Client_CRL is past its time, in Unix time.",
            "file",
        ),
        _counter("certificate_reloads_total", "Attempts to put new files of TLS in force.", "result"),
        _gauge("certificate_problems", "Files of TLS that changed and cannot be used: what was in force stays so."),
        _gauge("certificate_last_reload_timestamp_seconds", "When the last one was, in Unix time; 0: never."),
        _counter("configuration_reloads_total", "Reloads of the configuration.", "result"),
        _gauge("configuration_last_reload_successful", "Whether the last of them was put in force: 1 or 0."),
        _gauge("configuration_last_reload_timestamp_seconds", "When the last one was, in Unix time; 0: never."),
        # Messages
        _counter(
            "messages_total",
            "Messages whose body arrived: accepted, discarded by a policy, or refused.",
            "listener",
            "result",
        ),
        _counter("message_recipients_total", "Recipients of accepted messages."),
        _counter("message_bytes_total", "Bytes of accepted messages.", "listener"),
        _histogram("message_size_bytes", "Sizes of accepted messages."),
        _histogram("message_duration_seconds", "From MAIL to the end of the delivery, of accepted messages."),
        _histogram("delivery_duration_seconds", "How long the delivery of accepted messages took."),
        # Policy
        _counter("policy_failures_total", "Exceptions of policies in Python that are no refusals, by phase.", "phase"),
        _gauge("policy_deciders", "Deciders that are connected.", "group"),
        _gauge("policy_breaker_open", "Whether the circuit breaker of a group is open.", "group"),
        _counter("policy_requests_total", "Questions that a group was asked.", "group"),
        _counter(
            "policy_answers_total",
            "What became of them: answered, timed_out, or invalid (an answer that cannot be applied).",
            "group",
            "result",
        ),
        _histogram("policy_latency_seconds", "How long answers of deciders took.", "group"),
        _counter(
            "policy_fallbacks_total",
            "Decisions that the fallback made, as no answer could be applied.",
            "group",
            "phase",
            "fallback",
        ),
        _counter(
            "policy_shadow_differences_total",
            "Decisions that a decider in shadow would have made otherwise.",
            "group",
            "phase",
        ),
        _counter("policy_clients_refused_total", "Policy clients that were turned away."),
    )
}
"""The table, by name."""
