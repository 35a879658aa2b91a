"""The counters of the metrics: events in, samples out.

An event costs a few additions in dictionaries.  Values that the server knows anyway are read only at a scrape.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import frozen

from triosmtp.event import (
    AuthAttempted,
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
    PolicyClientRefused,
    PolicyFailed,
    PolicyFallback,
    Refused,
    ServerCertificatePresented,
    ServerEvent,
    ShadowDiffered,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.histogram import LATENCY_BOUNDS, Histogram
from triosmtp.status import metric_label
from triosmtp.status.metric_family import FAMILIES, MetricFamily
from triosmtp.status.status_source import StatusSource
from triosmtp.tls import REASONS
from triosmtp.version import versions

__all__ = ["MAX_REFUSAL_SERIES", "Metrics", "Samples"]

Labels: TypeAlias = tuple[str, ...]
Counts: TypeAlias = defaultdict[Labels, float]

_DURATIONS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_SIZES: Final = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_RELOADS: Final = ("ok", "failed")
_WHOLE: Final[tuple[Labels, ...]] = ((),)
_HANDSHAKES: Final = (("ok",), ("failed",))
_MESSAGES: Final = (("accepted",), ("discarded",), ("refused",))
_CERTIFICATES: Final = (("verified", ""), ("absent", ""), ("failed", metric_label.OTHER))
_TLS_FAILURES: Final = tuple((reason,) for reason in REASONS)
MAX_REFUSAL_SERIES: Final = 4000
"""Time series of refusals with the name of their Listen; further ones count for the Listen ``other``."""


@frozen(slots=True)
class Samples:
    """The values of one family at one moment, by the values of its labels."""

    family: MetricFamily
    values: Mapping[Labels, float | Histogram]


class Metrics:
    """Counts events.  It is an observer of the server."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {
            row.name: defaultdict(float) for row in FAMILIES.values() if row.kind == "counter"
        }
        c = self._counts
        self._sessions = c["triosmtp_sessions_total"]
        self._ended = c["triosmtp_sessions_ended_total"]
        self._commands = c["triosmtp_commands_total"]
        self._messages = c["triosmtp_messages_total"]
        self._bytes = c["triosmtp_message_bytes_total"]
        self._recipients = c["triosmtp_message_recipients_total"]
        self._handshakes = c["triosmtp_tls_handshakes_total"]
        self._established = c["triosmtp_tls_established_total"]
        self._certificates = c["triosmtp_tls_client_certificates_total"]
        self._refusals = c["triosmtp_refusals_total"]
        self._sizes = Histogram(_SIZES)
        self._message_seconds = Histogram()
        self._delivery_seconds = Histogram()
        self._session_seconds = Histogram(_DURATIONS)
        self._handshake_seconds = Histogram()
        self.lag = Histogram(LATENCY_BOUNDS)
        """The lag of the event loop, which :func:`~triosmtp.status.loop_lag.measure_lag` measures."""
        self.longest_lag: Callable[[], float] = float  # 0.0 until it is measured
        self._generation = -1
        self._limits_store_available = True
        self._reloads: dict[
            str, tuple[bool, float]
        ] = {}  # by kind: whether the last one succeeded, and the time of the last that did
        self._listener, self._group = metric_label.LabelNames(), metric_label.LabelNames()
        self._target = metric_label.LabelNames()
        self._handlers = self._handler_table()
        self._prepare()

    def _prepare(self) -> None:
        """Begin counters of alerts at 0: a rate needs a value before the first event."""
        for name in ("triosmtp_certificate_reloads_total", "triosmtp_configuration_reloads_total"):
            self._counts[name].update(dict.fromkeys(((result,) for result in _RELOADS), 0.0))
        for name in ("message_recipients", "policy_clients_refused", "limits_store_failures"):
            self._counts[f"triosmtp_{name}_total"][()] = 0.0

    def _handler_table(self) -> dict[type, Callable[[Any], None]]:
        return {
            AuthAttempted: self._auth_attempted,
            CertificateReloadFailed: self._certificate_reload_failed,
            CertificatesReloaded: self._certificates_reloaded,
            ConfigurationReloadFailed: self._configuration_reload_failed,
            ConfigurationReloaded: self._configuration_reloaded,
            Connected: self._connected,
            ConnectionRefused: self._connection_refused,
            Disconnected: self._disconnected,
            LimitsStoreChanged: self._limits_store_changed,
            MessageAccepted: self._accepted,
            MessageRefused: self._message_refused,
            PolicyClientRefused: self._policy_client_refused,
            PolicyFailed: self._policy_failed,
            PolicyFallback: self._policy_fallback,
            Refused: self._refused,
            ShadowDiffered: self._shadow_differed,
            ServerCertificatePresented: self._server_certificate_presented,
            TLSEstablished: self._tls_established,
            TLSFailed: self._tls_failed,
        }

    def __call__(self, event: ServerEvent) -> None:
        """Count ``event``."""
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    # Sessions

    def _connected(self, e: Connected) -> None:
        self._sessions[self._listener(e.session.listener),] += 1

    def _connection_refused(self, e: ConnectionRefused) -> None:
        labels = self._listener(e.listener), metric_label.limited(e.reason, metric_label.CONNECTION_LIMITS)
        self._counts["triosmtp_connections_refused_total"][labels] += 1

    def _disconnected(self, e: Disconnected) -> None:
        self._ended[metric_label.limited(e.reason, metric_label.ENDS),] += 1
        self._session_seconds.observe(e.seconds)
        for command, times in e.commands.items():
            self._commands[metric_label.limited(command, metric_label.VERBS),] += times

    def _refused(self, e: Refused) -> None:
        phase = metric_label.limited(e.phase, metric_label.REFUSAL_PHASES)
        self._count_refusal(e.session.listener, phase, e.code, e.decided_by)

    def _count_refusal(self, listener: str, phase: str, code: int, decided_by: str) -> None:
        """Count a refusal; if there are very many series, without its Listen, since policies may use any code."""
        rest = phase, metric_label.reply_code(code), metric_label.decider(decided_by)
        labels = (self._listener(listener), *rest)
        if labels not in self._refusals and len(self._refusals) >= MAX_REFUSAL_SERIES:
            labels = (metric_label.OTHER, *rest)
        self._refusals[labels] += 1

    def _auth_attempted(self, e: AuthAttempted) -> None:
        labels = (
            self._listener(e.session.listener),
            metric_label.auth_mechanism(e.mechanism),
            "ok" if e.succeeded else "failed",
        )
        self._counts["triosmtp_auth_attempts_total"][labels] += 1

    # TLS

    def _tls_established(self, e: TLSEstablished) -> None:
        tls = e.tls
        listener = self._listener(e.session.listener)
        self._handshakes[listener, "ok"] += 1
        version = metric_label.limited(tls.protocol, metric_label.VERSIONS)
        self._established[
            version, metric_label.key_exchange_group(tls.group), metric_label.cipher_class(tls.cipher)
        ] += 1
        self._handshake_seconds.observe(tls.handshake_seconds)
        if tls.verified:
            self._certificates[listener, "verified", ""] += 1
        elif tls.client_certificate is None:
            self._certificates[listener, "absent", ""] += 1
        else:
            self._certificates[listener, "failed", metric_label.verify_reason(tls.verify_code)] += 1

    def _server_certificate_presented(self, e: ServerCertificatePresented) -> None:
        labels = self._listener(e.session.listener), "verified" if e.tls.verified else "failed"
        self._counts["triosmtp_tls_server_certificates_total"][labels] += 1

    def _tls_failed(self, e: TLSFailed) -> None:
        listener = self._listener(e.session.listener)
        self._handshakes[listener, "failed"] += 1
        self._counts["triosmtp_tls_failures_total"][listener, metric_label.limited(e.reason, frozenset(REASONS))] += 1

    # Messages

    def _accepted(self, e: MessageAccepted) -> None:
        listener = self._listener(e.session.listener)
        self._messages[listener, "discarded" if e.discarded_by else "accepted"] += 1
        self._bytes[listener,] += e.size
        self._recipients[()] += len(e.recipients)
        self._sizes.observe(e.size)
        self._message_seconds.observe(e.seconds)
        if not e.discarded_by:
            self._delivery_seconds.observe(e.delivery_seconds)

    def _message_refused(self, e: MessageRefused) -> None:
        self._messages[self._listener(e.session.listener), "refused"] += 1
        self._count_refusal(e.session.listener, "data_spool", e.code, e.decided_by)

    # Reloads

    def _certificates_reloaded(self, e: CertificatesReloaded) -> None:
        if e.generation != self._generation:  # there is one event for each certificate
            self._generation = e.generation
            self._reloaded("certificate", well=True)

    def _certificate_reload_failed(self, _e: CertificateReloadFailed) -> None:
        self._reloaded("certificate", well=False)

    def _configuration_reloaded(self, _e: ConfigurationReloaded) -> None:
        self._reloaded("configuration", well=True)

    def _configuration_reload_failed(self, _e: ConfigurationReloadFailed) -> None:
        self._reloaded("configuration", well=False)

    def _reloaded(self, what: str, *, well: bool) -> None:
        self._counts[f"triosmtp_{what}_reloads_total"]["ok" if well else "failed",] += 1
        before = self._reloads.get(what, (True, 0.0))[1]
        self._reloads[what] = well, time.time() if well else before

    # Policy

    def _policy_failed(self, e: PolicyFailed) -> None:
        self._counts["triosmtp_policy_failures_total"][metric_label.limited(e.phase, metric_label.REFUSAL_PHASES),] += 1

    def _policy_fallback(self, e: PolicyFallback) -> None:
        phase = metric_label.limited(e.phase, metric_label.REFUSAL_PHASES)
        labels = self._group(e.group), phase, metric_label.limited(e.fallback, metric_label.FALLBACKS)
        self._counts["triosmtp_policy_fallbacks_total"][labels] += 1

    def _shadow_differed(self, e: ShadowDiffered) -> None:
        labels = self._group(e.group), metric_label.limited(e.phase, metric_label.REFUSAL_PHASES)
        self._counts["triosmtp_policy_shadow_differences_total"][labels] += 1

    def _policy_client_refused(self, _e: PolicyClientRefused) -> None:
        self._counts["triosmtp_policy_clients_refused_total"][()] += 1

    # Scrape

    def _limits_store_changed(self, e: LimitsStoreChanged) -> None:
        self._limits_store_available = e.available
        if not e.available:
            self._counts["triosmtp_limits_store_failures_total"][()] += 1

    async def scrape(self, source: StatusSource) -> list[Samples]:
        """Return a copy of all counters, and the present values of ``source``."""
        now: dict[str, Mapping[Labels, float | Histogram]] = {}
        now["triosmtp_certificate_expiry_timestamp_seconds"] = _expiries(await source.certificates())
        self._add_listeners(source)
        now |= {name: dict(values) for name, values in self._counts.items()}
        now |= self._histograms()
        now |= self._gauges(source)
        now |= self._policy(source)
        now |= self._targets(await source.targets())
        now["triosmtp_remembered_recipients"] = {(): float(await source.remembered_recipients())}
        return [Samples(family, now[name]) for name, family in FAMILIES.items()]

    def _add_listeners(self, source: StatusSource) -> None:
        for name in map(self._listener, source.sessions_by_listener()):
            for counts, results in (
                (self._sessions, _WHOLE),
                (self._bytes, _WHOLE),
                (self._messages, _MESSAGES),
                (self._handshakes, _HANDSHAKES),
                (self._certificates, _CERTIFICATES),
                (self._counts["triosmtp_tls_failures_total"], _TLS_FAILURES),
            ):
                for rest in results:
                    counts.setdefault((name, *rest), 0.0)

    def _histograms(self) -> Iterator[tuple[str, Mapping[Labels, Histogram]]]:
        for name, histogram in (
            ("triosmtp_event_loop_lag_seconds", self.lag),
            ("triosmtp_session_duration_seconds", self._session_seconds),
            ("triosmtp_tls_handshake_duration_seconds", self._handshake_seconds),
            ("triosmtp_message_size_bytes", self._sizes),
            ("triosmtp_message_duration_seconds", self._message_seconds),
            ("triosmtp_delivery_duration_seconds", self._delivery_seconds),
        ):
            yield name, {(): histogram.copy()}

    def _gauges(self, source: StatusSource) -> Iterator[tuple[str, Mapping[Labels, float]]]:
        sessions: Counts = defaultdict(float)
        for name, number in source.sessions_by_listener().items():
            sessions[self._listener(name),] += number
        yield "triosmtp_sessions", sessions
        yield "triosmtp_ready", {(): float(source.ready())}
        yield "triosmtp_workers", {(state,): float(number) for state, number in source.workers().items()}
        yield "triosmtp_worker_deaths_total", {(): float(source.worker_deaths())}
        yield "triosmtp_limits_store_available", {(): float(self._limits_store_available)}
        yield "triosmtp_tls_handshakes_under_way", {(): float(source.handshakes_under_way())}
        yield "triosmtp_event_loop_lag_max_seconds", {(): self.longest_lag()}
        triosmtp, python, _, openssl = versions().values()
        yield "triosmtp_build_info", {(triosmtp, python, openssl): 1.0}
        yield "triosmtp_events_lost_total", {(name,): float(lost) for name, lost in source.lost_events().items()}
        for what in ("certificate", "configuration"):
            yield f"triosmtp_{what}_last_reload_timestamp_seconds", {(): self._reloads.get(what, (True, 0.0))[1]}
        yield (
            "triosmtp_configuration_last_reload_successful",
            {(): float(self._reloads.get("configuration", (True,))[0])},
        )
        yield (
            "triosmtp_revocation_list_expiry_timestamp_seconds",
            {(file,): when for file, when in source.revocation_lists().items()},
        )
        yield "triosmtp_certificate_problems", {(): float(len(source.certificate_problems()))}

    def _targets(self, targets: list[dict[str, Any]]) -> Iterator[tuple[str, Mapping[Labels, float]]]:
        values: dict[str, dict[Labels, float]] = {
            name: {} for name in ("available", "failing_seconds", "connections", "latency_seconds", "answers_total")
        }
        for each in targets:
            name = self._target(each["name"])
            for key in ("available", "failing_seconds", "connections"):
                values[key][name,] = float(each[key])
            if each["latency"] is not None:
                values["latency_seconds"][name,] = each["latency"]
            for kind, number in each["answers"].items():
                values["answers_total"][name, metric_label.limited(kind, metric_label.ANSWERS)] = float(number)
        for key, found in values.items():
            yield f"triosmtp_target_{key}", found

    def _policy(self, source: StatusSource) -> Iterator[tuple[str, Mapping[Labels, float | Histogram]]]:
        deciders: Counts = defaultdict(float)
        breakers: dict[Labels, float] = {}
        requests: Counts = defaultdict(float)
        answers: Counts = defaultdict(float)
        for group in source.policy_groups():
            name = self._group(group["group"])
            deciders[name,] += group["deciders"]
            breakers[name,] = max(breakers.get((name,), 0.0), float(group["breaker"] == "open"))
            requests[name,] += group["asked"]
            for result, key in (("answered", "answered"), ("timed_out", "timeouts"), ("invalid", "invalid")):
                answers[name, result] += group[key]
        yield "triosmtp_policy_deciders", deciders
        yield "triosmtp_policy_breaker_open", breakers
        yield "triosmtp_policy_requests_total", requests
        yield "triosmtp_policy_answers_total", answers
        latencies = {self._group(group): latency for group, latency in source.policy_latencies().items()}
        yield "triosmtp_policy_latency_seconds", {(name,): latency for name, latency in latencies.items()}


def _expiries(certificates: list[dict[str, Any]]) -> dict[Labels, float]:
    """Return when each certificate expires; of two with the same file, key and name the earlier one."""
    found: dict[Labels, float] = {}
    for each in certificates:
        if each["not_after"] is not None:
            labels = each["file"], each["key"], each["server_name"] or ""
            when = datetime.fromisoformat(each["not_after"]).timestamp()
            found[labels] = min(when, found.get(labels, when))
    return found
