"""What policy clients and operators ask of sessions and certificates, answered for all workers."""

from collections.abc import Mapping
from typing import Any, Protocol

from triosmtp.server.local_sessions import LocalSessions
from triosmtp.server.service import Service

__all__ = ["Asked", "PooledSessions"]


class Asked(Protocol):
    """A supervisor, as far as this is concerned."""

    async def gather(self, what: str) -> list[Any]:
        """Ask each worker."""

    async def ask_about(self, session: str, *call: Any) -> Any:
        """Ask the worker of a session; give None where there is none."""

    async def reload_certificates(self, reason: str) -> None:
        """Have every worker read the files of TLS again."""


class PooledSessions(LocalSessions):
    """Answers for the sessions of all workers."""

    def __init__(self, service: Service, pool: Asked) -> None:
        super().__init__(service)
        self._fleet = pool

    async def inbound(self) -> list[dict[str, Any]]:
        """Give every session under way."""
        return [session for sessions in await self._fleet.gather("sessions") for session in sessions]

    async def session(self, session: str) -> dict[str, Any] | None:
        """Give one session with its contexts."""
        found: dict[str, Any] | None = await self._fleet.ask_about(session, "session", session)
        return found

    async def set_variables(
        self, session: str, connection: Mapping[str, str | None], message: Mapping[str, str | None]
    ) -> bool:
        """Set variables of a session, or remove them."""
        return bool(await self._fleet.ask_about(session, "set variables", session, dict(connection), dict(message)))

    async def close_session(self, session: str) -> bool:
        """End a session as soon as no transaction is under way."""
        return bool(await self._fleet.ask_about(session, "close session", session))

    async def body_part(self, question: str, session: str, start: int, size: int) -> tuple[bytes, int] | None:
        """Return a part of the message that a policy question is about, and the size of the whole message."""
        call = "body part", question, session, start, size
        found: tuple[bytes, int] | None = await self._fleet.ask_about(session, *call)
        return found

    async def reload_certificates(self) -> dict[str, Any]:
        """Read the files of TLS again, everywhere."""
        done = await super().reload_certificates()
        await self._fleet.reload_certificates("policy client")
        return done
