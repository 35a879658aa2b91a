"""The data of the server that the Status_Listener shows, as plain values."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import asdict

from triosmtp.delivery import TargetState
from triosmtp.histogram import Histogram
from triosmtp.server.server import Server
from triosmtp.tls import ServerContext

__all__ = ["ServerSource", "StatusSource"]


class StatusSource(Protocol):
    """The present state of the service; changes are events for observers.

    The source is one server, or a supervisor for its workers.  No value holds an object of the server, so that it may
    come from another process.
    """

    def ready(self) -> bool:
        """Return whether new connections are served: if all Listens are bound and :meth:`state` is ``serving``."""

    def state(self) -> str:
        """Return ``serving``, ``draining``, ``no worker``, or that a target is not available, with its name."""

    def workers(self) -> Mapping[str, int]:
        """Return the numbers of workers that are ``ready`` and ``starting``; empty without workers."""

    def worker_deaths(self) -> int:
        """Return the number of workers that ended unexpectedly."""

    def worker_list(self) -> list[dict[str, Any]]:
        """Return each worker: ``number``, ``process``, ``ready``, ``sessions`` and ``seconds`` since it was started."""

    def sessions_by_listener(self) -> Mapping[str, int]:
        """Return the number of sessions of every Listen, by its name."""

    async def sessions(self) -> list[dict[str, Any]]:
        """Return every session under way.

        Each has ``id``, ``peer``, ``listener``, ``age``, ``state``, ``messages``, ``tls`` (None, or ``protocol``,
        ``cipher`` and ``verified``), ``outdated``, and ``tls_variables``.
        """

    async def session(self, session: str) -> dict[str, Any] | None:
        """Return one session with its ``variables`` and ``message_variables``, or None if it has ended."""

    async def certificates(self) -> list[dict[str, Any]]:
        """Return every certificate in force.

        Each has ``file``, ``server_name``, ``key``, ``subject``, ``issuer``, ``chain``, ``names``,
        ``fingerprint_sha256``, ``not_before`` and ``not_after``; the last two as ISO 8601, or None.
        """

    def revocation_lists(self) -> Mapping[str, float]:
        """Return when the first list of each file of TLS_Client_CRL in force expires, in Unix time."""

    def certificate_problems(self) -> list[dict[str, Any]]:
        """Return the changed files of TLS that are not in force, with the reasons.

        Each has ``file``, ``option``, ``reason``, ``since`` and ``in_force``.  The last are the certificates that are
        still served, with ``subject``, ``not_after`` (or None) and ``read``.  Times are ISO 8601.
        """

    def policy_groups(self) -> list[dict[str, Any]]:
        """Return each group of deciders with its counters and clients, as ``Hub.groups`` does."""

    def policy_latencies(self) -> Mapping[str, Histogram]:
        """Return a copy of the latencies of each group of deciders, in seconds."""

    def handshakes_under_way(self) -> int:
        """Return the number of TLS handshakes under way."""

    async def targets(self) -> list[dict[str, Any]]:
        """Return each target of mail.

        Each has ``name``, ``available``, ``failing_seconds``, ``reason``, ``latency`` (seconds, or None), ``answers``
        (numbers by class), ``connections``, and ``required``: whether a Listen cannot accept mail without it.
        """

    async def remembered_recipients(self) -> int:
        """Return the number of recipients that are remembered for a retry."""

    def lost_events(self) -> Mapping[str, int]:
        """Return the number of events that each observer lost.

        The observers are ``policy_clients``, ``nats`` (Publish_Events), and each log by its name.
        """


class ServerSource:
    """A server of this process as a :class:`StatusSource`.

    ``lost_lines`` returns the number of lines that each log lost.
    """

    def __init__(self, server: Server, lost_lines: Callable[[], Mapping[str, int]] = dict) -> None:
        self._service = server.service
        self._pool = server.pool
        self._lost_lines = lost_lines
        self.sessions = server.sessions.inbound
        self.session = server.sessions.session
        self.certificates = server.sessions.certificates

    def ready(self) -> bool:
        """Return whether new connections are served."""
        return self.state() == "serving"

    def state(self) -> str:
        """Return whether new connections are served, and if not, why."""
        if self._service.draining:
            return "draining"
        if self._pool is not None and not self._pool.state().ready:
            return "no worker"
        required = self._service.profiles.default_targets()
        down = [each.name for each in self._target_states() if each.name in required and not each.available]
        return f"target not available: {', '.join(down)}" if down else "serving"

    def workers(self) -> Mapping[str, int]:
        """Return the numbers of workers by state."""
        if self._pool is None:
            return {}
        state = self._pool.state()
        return {"ready": state.ready, "starting": state.starting}

    def worker_deaths(self) -> int:
        """Return the number of workers that ended unexpectedly."""
        return 0 if self._pool is None else self._pool.state().deaths

    def worker_list(self) -> list[dict[str, Any]]:
        """Return each worker as a plain value."""
        return [] if self._pool is None else [asdict(each) for each in self._pool.state().workers]

    def sessions_by_listener(self) -> Mapping[str, int]:
        """Return the number of sessions of every Listen."""
        names = (listen.name for listen in self._service.config.listens)
        return {**dict.fromkeys(names, 0), **self._service.limits.admission.sessions_by_listener}

    def revocation_lists(self) -> Mapping[str, float]:
        """Return when the first list of each file expires."""
        found: dict[str, float] = {}
        for context in self._service.contexts.contexts():
            for each in context.material.revocations:
                if each.next_update is not None:
                    when = each.next_update.timestamp()
                    found[str(each.path)] = min(when, found.get(str(each.path), when))
        return found

    def certificate_problems(self) -> list[dict[str, Any]]:
        """Return the changed files of TLS that are not in force."""
        return [
            {
                "file": str(problem.error.path or ""),
                "option": problem.error.option,
                "reason": problem.error.reason,
                "since": problem.since.isoformat(),
                "in_force": _in_force(self._service.contexts.in_force(problem)),
            }
            for problem in self._service.contexts.problems
        ]

    def policy_groups(self) -> list[dict[str, Any]]:
        """Return each group of deciders with its counters and clients."""
        return self._service.hub.groups()

    def policy_latencies(self) -> Mapping[str, Histogram]:
        """Return the latencies of each group of deciders."""
        return self._service.hub.latencies()

    def handshakes_under_way(self) -> int:
        """Return the number of TLS handshakes under way."""
        return self._service.limits.handshakes.under_way

    async def targets(self) -> list[dict[str, Any]]:
        """Return each target of mail, of all processes together."""
        if self._pool is not None:
            await self._pool.refresh_target_states()
        required = self._service.profiles.default_targets()
        return [{**asdict(state), "required": state.name in required} for state in self._target_states()]

    def _target_states(self) -> tuple[TargetState, ...]:
        states = {state.name: state for state in self._service.profiles.targets.states()}
        if self._pool is not None:  # the workers deliver
            states |= {state.name: state for state in self._pool.target_states() if state.name in states}
        return tuple(states.values())

    async def remembered_recipients(self) -> int:
        """Return the number of recipients that are remembered for a retry."""
        return await self._service.profiles.targets.count_remembered()

    def lost_events(self) -> Mapping[str, int]:
        """Return the number of events that each observer lost."""
        publisher = self._service.publisher
        published = {} if publisher is None else {"nats": publisher.lost}
        return {"policy_clients": self._service.hub.notifications_lost, **published, **self._lost_lines()}


def _in_force(contexts: tuple[ServerContext, ...]) -> list[dict[str, Any]]:
    """Return the certificates of contexts, each once."""
    found = {}
    for context in contexts:
        material = context.material
        for each in (*material.certificates, *(each for group in material.server_names.values() for each in group)):
            facts = each.leaf
            found[facts.fingerprint_sha256] = {
                "subject": facts.subject,
                "not_after": None if facts.not_after is None else facts.not_after.isoformat(),
                "read": context.loaded_at.isoformat(),
            }
    return list(found.values())
