"""What the Status_Listener shows of the server: a few questions, all of whose answers are plain values."""

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import asdict

from triosmtp.histogram import Histogram
from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.server import Server
from triosmtp.tls import ServerContext

__all__ = ["ServerSource", "Source"]


class Source(Protocol):
    """The service as it is now.  What happens meanwhile comes as events, to the observers.

    Whoever serves answers: one server, or a supervisor for all its workers.  Nothing here holds an object of the
    server, so that the answers may come from other processes.
    """

    def ready(self) -> bool:
        """Whether new connections are served: not before every Listen is bound, nor while :meth:`state` says why."""

    def state(self) -> str:
        """Give that in a word or two: ``serving``, ``draining`` or ``no worker``."""

    def workers(self) -> Mapping[str, int]:
        """Give how many workers are ``ready`` and ``starting``; nothing where one process does it all."""

    def worker_deaths(self) -> int:
        """Give how many workers ended unasked."""

    def worker_list(self) -> list[dict[str, Any]]:
        """Return each worker: ``number``, ``process``, ``ready``, ``sessions`` and ``seconds`` since it was started."""

    def sessions_by_listener(self) -> Mapping[str, int]:
        """Give how many sessions are under way, by the name of their Listen; every Listen that serves is there."""

    async def sessions(self) -> list[dict[str, Any]]:
        """Give every session under way.

        Each has ``id``, ``peer``, ``listener``, ``age``, ``state``, ``messages``, ``tls`` (None, or ``protocol``,
        ``cipher`` and ``verified``), ``outdated``, and ``tls_variables``.
        """

    async def session(self, session: str) -> dict[str, Any] | None:
        """Give one session with its ``variables`` and ``message_variables``, or None where it is over."""

    async def certificates(self) -> list[dict[str, Any]]:
        """Give every certificate in force.

        Each has ``file``, ``server_name``, ``key``, ``subject``, ``issuer``, ``chain``, ``names``,
        ``fingerprint_sha256``, ``not_before`` and ``not_after``; the last two as ISO 8601, or None.
        """

    def revocation_lists(self) -> Mapping[str, float]:
        """Return when the first list of each file of TLS_Client_CRL in force is past its time, in Unix time."""

    def certificate_problems(self) -> list[dict[str, Any]]:
        """Return why changed files of TLS are not in force, and what is.

        Each has ``file``, ``option``, ``reason``, ``since`` (ISO 8601), and ``in_force``: each certificate that is
        still served with its ``subject``, ``not_after`` (ISO 8601 or None) and when it was ``read`` (ISO 8601).
        """

    def policy_groups(self) -> list[dict[str, Any]]:
        """Give each group of deciders with its counters and clients, as ``Hub.groups`` does."""

    def policy_latencies(self) -> Mapping[str, Histogram]:
        """Give how long the answers of each group of deciders took, in seconds; later answers do not touch it."""

    def handshakes_under_way(self) -> int:
        """Give how many TLS handshakes are under way."""


class ServerSource:
    """A server of this process as a :class:`Source`."""

    def __init__(self, server: Server) -> None:
        self._service = server.service
        self._fleet = server.pool
        self._host = server.service.host or LocalSessions(server.service)
        self.sessions = self._host.inbound
        self.session = self._host.session
        self.certificates = self._host.certificates

    def ready(self) -> bool:
        """Whether new connections are served."""
        return self.state() == "serving"

    def state(self) -> str:
        """Give whether new connections are served, and if not, why."""
        if self._service.draining:
            return "draining"
        return "serving" if self._fleet is None or self._fleet.state().ready else "no worker"

    def workers(self) -> Mapping[str, int]:
        """Give how many workers there are, by how they fare."""
        if self._fleet is None:
            return {}
        state = self._fleet.state()
        return {"ready": state.ready, "starting": state.starting}

    def worker_deaths(self) -> int:
        """Give how many workers ended unasked."""
        return 0 if self._fleet is None else self._fleet.state().deaths

    def worker_list(self) -> list[dict[str, Any]]:
        """Return each worker as a plain value."""
        return [] if self._fleet is None else [asdict(each) for each in self._fleet.state().workers]

    def sessions_by_listener(self) -> Mapping[str, int]:
        """Give how many sessions are under way, by the name of their Listen."""
        names = (listen.name for listen in self._service.config.listens)
        return {**dict.fromkeys(names, 0), **self._service.sessions_by_listener}

    def revocation_lists(self) -> Mapping[str, float]:
        """Return when the first list of each file is past its time."""
        found: dict[str, float] = {}
        for context in self._service.contexts.contexts():
            for each in context.material.revocations:
                if each.next_update is not None:
                    when = each.next_update.timestamp()
                    found[str(each.path)] = min(when, found.get(str(each.path), when))
        return found

    def certificate_problems(self) -> list[dict[str, Any]]:
        """Give why files of TLS that changed are not in force."""
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
        """Give each group of deciders with its counters and clients."""
        return self._service.hub.groups()

    def policy_latencies(self) -> Mapping[str, Histogram]:
        """Give how long the answers of each group of deciders took."""
        return self._service.hub.latencies()

    def handshakes_under_way(self) -> int:
        """Give how many TLS handshakes are under way."""
        return self._service.handshakes.under_way


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
