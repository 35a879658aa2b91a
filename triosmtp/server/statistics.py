"""Counters of one server."""

from attrs import define

from triosmtp.event import (
    ConnectionRefused,
    MessageAccepted,
    MessageRefused,
    ServerEvent,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.observer import Subscription

__all__ = ["Statistics"]


@define(slots=True)
class Statistics:
    """Counters since the server started, and the number of sessions now."""

    sessions: int = 0
    """Sessions now."""
    sessions_total: int = 0
    """Sessions that started."""
    connections_refused: int = 0
    """Connections that were refused without a session, because a limit was reached."""
    handshakes: int = 0
    """TLS handshakes that were completed, with or without a verified client certificate."""
    handshakes_failed: int = 0
    """TLS handshakes that failed, and plaintext after STARTTLS."""
    messages_accepted: int = 0
    """Messages that were answered 250: delivered, or discarded by a policy."""
    messages_refused: int = 0
    """Messages that were refused after their body had arrived."""
    bytes_accepted: int = 0
    """Octets of accepted messages, as their clients sent them."""

    def subscription(self) -> Subscription:
        """Return the subscription that counts the events of a server."""
        return Subscription(
            self._count, (MessageAccepted, MessageRefused, TLSEstablished, TLSFailed, ConnectionRefused)
        )

    def _count(self, event: ServerEvent) -> None:
        if isinstance(event, MessageAccepted):
            self.messages_accepted += 1
            self.bytes_accepted += event.size
        elif isinstance(event, MessageRefused):
            self.messages_refused += 1
        elif isinstance(event, TLSEstablished):
            self.handshakes += 1
        elif isinstance(event, TLSFailed):
            self.handshakes_failed += 1
        else:
            self.connections_refused += 1
