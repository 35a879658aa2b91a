"""The sessions of all workers, for policy clients and operators."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from triosmtp.server.local_sessions import LocalSessions, ScriptAnswer
from triosmtp.server.service import Service
from triosmtp.workers.worker_messages import (
    CloseSession,
    DescribeSession,
    ListSessions,
    ReadBodyPart,
    RunScriptCommand,
    SetVariables,
    WorkerRequest,
)

__all__ = ["PooledSessions", "WorkerRequester"]

T = TypeVar("T")


class WorkerRequester(Protocol):
    """The part of a supervisor that asks its workers."""

    async def ask_all(self, request: WorkerRequest[T]) -> list[T]:
        """Return the answers of all workers that answer."""

    async def ask_about(self, session: str, request: WorkerRequest[T]) -> T | None:
        """Return the answer of the worker that has the session; None if none has."""

    async def reload_certificates(self, reason: str) -> None:
        """Read the TLS files again in each worker."""


class PooledSessions(LocalSessions):
    """The sessions of all workers."""

    def __init__(self, service: Service, workers: WorkerRequester) -> None:
        super().__init__(service)
        self._workers = workers

    async def inbound(self) -> list[dict[str, Any]]:
        """Return every session, with data for operators."""
        return [session for sessions in await self._workers.ask_all(ListSessions()) for session in sessions]

    async def script_command(self, words: Sequence[str]) -> list[ScriptAnswer]:
        """Run a command of the console that scripts have registered, in each worker."""
        return [each for each in await self._workers.ask_all(RunScriptCommand(tuple(words))) if each is not None]

    async def session(self, session: str) -> dict[str, Any] | None:
        """Return one session with its variables."""
        return await self._workers.ask_about(session, DescribeSession(session))

    async def set_variables(
        self, session: str, connection: Mapping[str, str | None], message: Mapping[str, str | None]
    ) -> bool:
        """Set variables of a session, or remove them; return False if there is no such session."""
        request = SetVariables(session, dict(connection), dict(message))
        done = await self._workers.ask_about(session, request)
        return bool(done)

    async def close_session(self, session: str) -> bool:
        """End a session as soon as it has no transaction; return False if there is no such session."""
        done = await self._workers.ask_about(session, CloseSession(session))
        return bool(done)

    async def body_part(self, question: str, session: str, start: int, size: int) -> tuple[bytes, int] | None:
        """Return a part of the message that a policy question is about, and the size of the whole message."""
        return await self._workers.ask_about(session, ReadBodyPart(question, session, start, size))

    async def reload_certificates(self) -> dict[str, Any]:
        """Read the TLS files again, in each process."""
        done = await super().reload_certificates()
        await self._workers.reload_certificates("policy client")
        return done
