"""The sessions and certificates of a server as plain values, for policy clients and operators."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio
from attrs import frozen

from triosmtp.event import ServerEvent
from triosmtp.server.service import RunningSession, Service
from triosmtp.server.tls_report import certificate_rows
from triosmtp.tls import ServerContext
from triosmtp.tls.certificate_renewal import reload_certificates
from triosmtp.variables import POSTFIX_ALIASES

__all__ = ["LocalSessions", "ScriptAnswer"]

_SESSIONS_PER_TURN: Final = 500
"""Sessions that are listed before other tasks run."""


@frozen(slots=True)
class ScriptAnswer:
    """The answer of a script to a command of the console."""

    text: str
    failed: bool = False


class LocalSessions:
    """The sessions of one service.  It is a :class:`~triosmtp.policy_service.server_admin.ServerAdmin`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def emit(self, event: ServerEvent) -> None:
        """Call the observers of the server."""
        self._service.emit(event)

    async def sessions(self) -> list[dict[str, Any]]:
        """Return every session, for policy clients."""
        return [_without_outdated(each) for each in await self.inbound()]

    async def inbound(self) -> list[dict[str, Any]]:
        """Return every session, for operators: also its TLS variables, and whether its configuration is outdated."""
        found = []
        for number, running in enumerate(tuple(self._service.running), 1):
            tls = running.session.connection_tls
            more = {
                "outdated": running.generation is not self._service.generation,
                "tls_variables": {} if tls is None else _without_aliases(tls.variables()),
            }
            found.append(_session(running) | more)
            if number % _SESSIONS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        return found

    async def script_command(self, words: Sequence[str]) -> list[ScriptAnswer]:
        """Run a command of the console that scripts have registered; return nothing if no script has.

        Each process has scripts of its own, and an answer.
        """
        found = self._service.generation.profiles.script_set
        if found is None:
            return []
        from triosmtp.lua.script_console import ControlFailedError, run_control  # noqa: PLC0415 - there are scripts

        try:
            text = await run_control(found.engine, words)
        except ControlFailedError as error:
            return [ScriptAnswer(str(error), failed=True)]
        return [] if text is None else [ScriptAnswer(text)]

    async def session(self, session: str) -> dict[str, Any] | None:
        """Return one session with its variables; None if there is no such session."""
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
        """Set variables of a session, or remove those with the value None; return False if there is no such session."""
        running = self._find(session)
        if running is None:
            return False
        running.session.variables.apply(connection)
        running.session.message_variables.apply(message)
        return True

    async def close_session(self, session: str) -> bool:
        """End a session as soon as it has no transaction; return False if there is no such session."""
        running = self._find(session)
        if running is not None:
            running.close()
        return running is not None

    async def body_part(self, question: str, session: str, start: int, size: int) -> tuple[bytes, int] | None:  # noqa: ARG002 - a supervisor needs the session
        """Return a part of the message that a policy question is about, and the size of the whole message."""
        return await self._service.hub.body_part(question, start, size)

    async def certificates(self) -> list[dict[str, Any]]:
        """Return every certificate in force."""
        return await trio.to_thread.run_sync(_certificates, self._service.contexts.contexts())

    async def reload_certificates(self) -> dict[str, Any]:
        """Read the TLS files again; return the result."""
        service = self._service
        outcome = await reload_certificates(
            service.contexts, service.tls_settings, service.emit, reason="policy client"
        )
        problems = list(dict.fromkeys(str(each.error) for each in outcome.problems.values()))
        return {"generation": outcome.generation, "renewed": len(outcome.renewed), "problems": problems}

    def _find(self, session: str) -> RunningSession | None:
        return next((each for each in tuple(self._service.running) if each.session.id == session), None)


def _without_outdated(session: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name not in {"outdated", "tls_variables"}}


def _without_aliases(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in POSTFIX_ALIASES}


def _session(running: RunningSession) -> dict[str, Any]:
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
