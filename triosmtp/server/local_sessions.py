"""The server as policy clients know it: its sessions and certificates, as plain values."""

from collections.abc import Mapping
from typing import Any

import trio

from triosmtp.event import ServerEvent
from triosmtp.server.service import Running, Service
from triosmtp.server.tls_report import certificate_rows
from triosmtp.tls import ServerContext
from triosmtp.tls.watcher import reload_certificates
from triosmtp.variables import POSTFIX_ALIASES

__all__ = ["LocalSessions"]

_AT_ONCE = 500  # sessions that are looked at before others get their turn


class LocalSessions:
    """Answers for one service.  It is a :class:`~triosmtp.policy_service.question.ServerAdmin`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def emit(self, event: ServerEvent) -> None:
        """Tell the observers of the server."""
        self._service.emit(event)

    async def sessions(self) -> list[dict[str, Any]]:
        """Give every session under way, in a few words each."""
        return [_without_outdated(each) for each in await self.inbound()]

    async def inbound(self) -> list[dict[str, Any]]:
        """Give the same, of each also whether it is on an old configuration, and its variables of TLS."""
        found = []
        for number, running in enumerate(tuple(self._service.running), 1):
            tls = running.session.connection_tls
            more = {
                "outdated": running.generation is not self._service.generation,
                "tls_variables": {} if tls is None else _without_aliases(tls.variables()),
            }
            found.append(_session(running) | more)
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    async def session(self, session: str) -> dict[str, Any] | None:
        """Give one session with its contexts."""
        running = self._find(session)
        if running is None:
            return None
        return _session(running) | {
            "variables": running.session.variables.snapshot(),
            "message_variables": running.session.message_variables.snapshot(),
        }

    async def set_variables(
        self, session: str, connection: Mapping[str, str | None], message: Mapping[str, str | None]
    ) -> bool:
        """Set variables of a session, or remove them."""
        running = self._find(session)
        if running is None:
            return False
        for context, changes in (
            (running.session.variables, connection),
            (running.session.message_variables, message),
        ):
            for name, value in changes.items():
                if value is None:
                    context.pop(name, None)
                else:
                    context[name] = value
        return True

    async def close_session(self, session: str) -> bool:
        """End a session as soon as no transaction is under way."""
        running = self._find(session)
        if running is not None:
            running.close()
        return running is not None

    async def body_part(self, question: str, session: str, start: int, size: int) -> tuple[bytes, int] | None:  # noqa: ARG002 - tells the supervisor which worker
        """Return a part of the message that a policy question is about, and the size of the whole message."""
        return await self._service.hub.body_part(question, start, size)

    async def certificates(self) -> list[dict[str, Any]]:
        """Give every certificate in force."""
        return await trio.to_thread.run_sync(_certificates, self._service.contexts.contexts())

    async def reload_certificates(self) -> dict[str, Any]:
        """Read the files of TLS again."""
        service = self._service
        outcome = await reload_certificates(
            service.contexts, service.tls_settings, service.emit, reason="policy client"
        )
        problems = list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))
        return {"generation": outcome.generation, "renewed": len(outcome.renewed), "problems": problems}

    def _find(self, session: str) -> Running | None:
        return next((each for each in tuple(self._service.running) if each.session.id == session), None)


def _without_outdated(session: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name not in {"outdated", "tls_variables"}}


def _without_aliases(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in POSTFIX_ALIASES}


def _session(running: Running) -> dict[str, Any]:
    session, tls = running.session, running.session.connection_tls
    return {
        "id": session.id,
        "peer": session.peer,
        "listener": session.listener,
        "age": round(trio.current_time() - running.started, 1),
        "state": running.state,
        "messages": running.messages,
        "tls": None if tls is None else {"protocol": tls.protocol, "cipher": tls.cipher, "verified": tls.verified},
    }


def _certificates(contexts: tuple[ServerContext, ...]) -> list[dict[str, Any]]:
    return [row for context in contexts for row in certificate_rows(context.material)]
