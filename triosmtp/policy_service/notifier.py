"""The sender of notifications: the clients that want each method, and one encoding for all with the same selection."""

import time
from datetime import UTC, datetime
from typing import Any

from triosmtp.event import SessionInfo
from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.event_notification import EventNotification
from triosmtp.policy_service.json_rpc import encode_json
from triosmtp.policy_service.outbox import encode_text_frame
from triosmtp.policy_service.recorded_body import MAX_RECORDED, encode_body
from triosmtp.policy_service.registration import Registration

__all__ = ["Notifier"]


class Notifier:
    """Sends notifications to the clients that want them.  It is true if there are such clients."""

    def __init__(self) -> None:
        self._clients: dict[str, list[tuple[ConnectedClient, Registration]]] = {}
        self._sequence = 0
        self.lost = 0
        """Notifications that were lost, because a client does not keep up."""

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __contains__(self, method: str) -> bool:
        return method in self._clients

    def add(self, client: ConnectedClient, registration: Registration) -> None:
        """Add a client, for the methods that it registered."""
        for method in registration.notifications:
            self._clients.setdefault(method, []).append((client, registration))

    def remove(self, client: ConnectedClient, registration: Registration) -> None:
        """Remove a client."""
        for method in registration.notifications:
            self._clients[method].remove((client, registration))
            if not self._clients[method]:
                del self._clients[method]

    @property
    def recorded_octets(self) -> int:
        """The bytes of each message that a client records."""
        recorders = self._clients.get("session.phase", ())
        limits = (client.access.body_limit for client, registration in recorders if registration.bodies)
        return min(max(limits, default=0), MAX_RECORDED)

    def send(self, notification: EventNotification, session: SessionInfo | None) -> None:
        """Enqueue a notification for each client that wants it; ``session`` is None if it is not about a session."""
        self._sequence += 1
        head: dict[str, Any] = {"sequence": self._sequence, "time": _now()}
        if session is not None:
            head |= {"session": session.id, "peer": session.peer, "listener": session.listener}
        texts: dict[object, str] = {}
        frames: dict[object, bytes] = {}
        for client, registration in self._clients[notification.method]:
            if session is not None and not registration.wants_session(session.peer, session.listener):
                continue
            records = registration.bodies and notification.excerpt is not None
            limit = client.access.body_limit if records else 0
            key = registration.selection if notification.contexts else (), limit
            if key not in texts:
                texts[key] = encode_json({**head, **_selected(notification, registration, limit)})
            outbox = client.outbox
            if outbox.lost:
                lost, outbox.lost = outbox.lost, 0
                if not outbox.put_notification(_frame(notification.method, f'{{"lost":{lost},{texts[key][1:]}')):
                    outbox.lost += lost
                    self.lost += 1
                continue
            if key not in frames:
                frames[key] = _frame(notification.method, texts[key])
            if not outbox.put_notification(frames[key]):
                self.lost += 1


def _selected(notification: EventNotification, registration: Registration, limit: int) -> dict[str, Any]:
    """Return the parameters for clients with this selection of variables; ``limit`` is that of the body."""
    contexts = {name: registration.patterns(name).select(values) for name, values in notification.contexts.items()}
    body = encode_body(notification.excerpt, limit) if limit else {}
    return {**contexts, **notification.params, **body}


def _frame(method: str, params: str) -> bytes:
    return encode_text_frame(f'{{"jsonrpc":"2.0","method":"{method}","params":{params}}}'.encode("ascii"))


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
