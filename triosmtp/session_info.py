"""The reference to a session that its events share.  A module of its own: policies need it, and no event."""

from functools import cached_property
from json.encoder import encode_basestring_ascii

from attrs import frozen

__all__ = ["SessionInfo"]


@frozen(slots=False, kw_only=True)
class SessionInfo:
    """Which session an event is about.

    A session has one of these, and a new one if a trusted peer announces another client (XCLIENT, XREMOTEIP).
    """

    id: str
    """The id of the session; ``""`` for a connection that has none."""
    peer: str
    """The address and port of the client: ``192.0.2.7:53211``, ``[2001:db8::7]:53211``, or ``unix``."""
    local: str = ""
    """The address and port that the client connected to; ``""`` if they are not known."""
    listener: str = ""
    """The name of the Listen, as the configuration spells it."""

    @cached_property
    def quoted(self) -> tuple[str, str, str] | None:
        """The id, the peer and the listener as JSON strings, for its lines in the log; None if one is empty."""
        texts = self.id, self.peer, self.listener
        if "" in texts:
            return None
        name, peer, listener = map(encode_basestring_ascii, texts)
        return name, peer, listener
