"""Greylisting: which messages wait, and for how long (RFC 6647).

A client that queues mail tries again; most senders of unwanted mail do not.  Network of the client, sender and
recipient are remembered, as a digest.  The network is an IPv4 address without its last octet, or the /64 of an IPv6
address, because large sites retry from another host.  A network from which five messages have passed waits no more.
"""

from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from attrs import frozen

from triosmtp.smtp import Address

__all__ = ["CLIENT_PASSES", "PASSED_SECONDS", "WAITING_SECONDS", "GreylistKeys", "GreylistStore", "keys_of"]

WAITING_SECONDS: Final = 2 * 86400
"""Seconds for which a first attempt is remembered."""
PASSED_SECONDS: Final = 35 * 86400
"""Seconds for which a message that passed, and a network, are remembered after their last use."""
CLIENT_PASSES: Final = 5
"""Messages that must have passed from a network, until the network waits no more."""


@frozen(slots=True)
class GreylistKeys:
    """What a message is remembered by: digests of its client, sender and recipient, and of the client alone."""

    message: str
    client: str


class GreylistStore(Protocol):
    """Remembers attempts."""

    async def wait(self, keys: GreylistKeys, delay: float) -> float:
        """Remember an attempt, and return the seconds that are left of ``delay``; 0 if the message is accepted.

        A store that cannot be reached accepts: no mail is delayed because a list is away.
        """


def keys_of(address: IPv4Address | IPv6Address, sender: Address, recipient: Address) -> GreylistKeys:
    """Return the keys of a message."""
    network = f"{address.version}:{int(address) >> (8 if address.version == 4 else 64):x}"
    text = "\n".join((network, sender.text.lower(), recipient.text.lower()))
    return GreylistKeys(_digest(text), _digest(network))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
