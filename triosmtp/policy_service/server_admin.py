"""The interface of a hub to the server whose sessions it serves."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from triosmtp.event import ServerEvent

__all__ = ["ServerAdmin"]


class ServerAdmin(Protocol):
    """The server behind a hub, in one process or several.  Every value is plain JSON."""

    def emit(self, event: ServerEvent) -> None:
        """Pass an event of the hub to the observers of the server."""

    def sessions(self) -> Awaitable[list[dict[str, Any]]]:
        """Return ``{id, peer, listener, age, state, messages, tls}`` of every session that is open."""

    def session(self, session: str) -> Awaitable[dict[str, Any] | None]:
        """Return the same of one session, with ``variables`` and ``message_variables``; None if it is not open."""

    def set_variables(
        self, session: str, connection: Mapping[str, str | None], message: Mapping[str, str | None]
    ) -> Awaitable[bool]:
        """Set variables of a session, or remove them (None); return whether the session is open.

        :raises KeyError: if only the TLS engine may write one of them.  Then no variable of its context is changed.
        """

    def close_session(self, session: str) -> Awaitable[bool]:
        """End a session with 421 4.3.2 after its current transaction; return whether the session is open."""

    def certificates(self) -> Awaitable[list[dict[str, Any]]]:
        """Return ``{file, server_name, key, subject, issuer, names, fingerprint_sha256, not_before, not_after}``."""

    def body_part(self, question: str, session: str, start: int, size: int) -> Awaitable[tuple[bytes, int] | None]:
        """Return up to ``size`` bytes of the message that a question is about, and the size of the whole message.

        Return None if that question is not open any more.

        :raises SpoolError: if the message cannot be read.
        """

    def reload_certificates(self) -> Awaitable[dict[str, Any]]:
        """Read the files of TLS again, and return ``{generation, renewed, problems}``."""
