"""The limits of a hub: on the clients that it serves, and on the questions that it asks."""

from attrs import frozen

__all__ = ["HubLimits"]


@frozen(slots=True, kw_only=True)
class HubLimits:
    """The limits of a hub.  Sizes are in bytes, times in seconds."""

    message_bytes: int = 262144
    """Size of one message of a client."""
    outstanding: int = 1000
    """Questions that one decider has not answered.  A decider with more of them is dropped."""
    queue: int = 10_000
    """Notifications that wait for one client.  Further ones are lost, and counted."""
    queue_bytes: int = 8 * 1024 * 1024
    """Size of the notifications that wait for one client."""
    urgent_bytes: int = 64 * 1024 * 1024
    """Size of the questions and responses that wait for one client.  A client with more of them is dropped."""
    malformed: int = 20
    """Malformed messages after which a client is dropped."""
    client_timeouts: int = 5
    """Time-outs in a row after which a decider is dropped."""
    breaker_timeouts: int = 5
    """Time-outs in a row that open the circuit breaker of a group."""
    breaker_seconds: float = 10.0
    """Time between two questions that probe a group whose breaker is open."""
    ping_seconds: float = 20.0
    """Time between two pings.  A client must answer within that time, or read (see ``websocket_server.py``)."""
    shadow_seconds: float = 5.0
    """Time for the answer of a decider in shadow."""
    shadow_questions: int = 1000
    """Questions that deciders in shadow have not answered.  Beyond this, deciders in shadow are not asked."""
