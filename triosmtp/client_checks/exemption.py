"""Clients and recipients to which neither lists in the DNS nor greylisting apply."""

from typing import Final

from triosmtp.policy import Session
from triosmtp.smtp import Address

__all__ = ["is_exempt"]

_ROLES: Final = frozenset({"abuse", "postmaster"})
"""Mailboxes that a refused client can ask for the reason (RFC 5321, section 4.5.1; RFC 2142)."""


def is_exempt(session: Session, recipient: Address) -> bool:
    """Return whether the client may relay, has authenticated or is local, or the recipient is a role of the server."""
    address = session.peer_address
    if address is None or address.is_loopback or session.auth is not None:
        return True
    return session.variables.get("can_relay") == "true" or recipient.local_part.lower() in _ROLES
