"""The name of a client in the DNS.  Only a name that leads back to the client's address is its name."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import trio
from attrs import frozen

from triosmtp.dns_client import DNSError, DNSResolver
from triosmtp.domain import DomainError, domain_key

__all__ = ["UNKNOWN", "ClientName", "find_client_name"]

UNKNOWN: Final = "unknown"
"""The name of a client without one, as in Postfix."""


@frozen(slots=True)
class ClientName:
    """The names of a client.

    ``confirmed`` is a name that has the client's address, else ``unknown``.  ``reverse`` is the name that the address
    has, perhaps without the reverse: a claim of the operator of the client's network.
    """

    confirmed: str = UNKNOWN
    reverse: str = UNKNOWN


async def find_client_name(resolver: DNSResolver, address: IPv4Address | IPv6Address, seconds: float) -> ClientName:
    """Return the names of ``address``.  A name that is not known after ``seconds`` is unknown."""
    until = trio.current_time() + seconds
    try:
        names = await resolver.look_up(address.reverse_pointer, "PTR", seconds)
        reverse = domain_key(names[0].text)
    except (DNSError, DomainError):
        return ClientName()
    kind = "A" if address.version == 4 else "AAAA"
    try:
        found = await resolver.look_up(reverse, kind, max(0.0, until - trio.current_time()))
    except DNSError:
        return ClientName(reverse=reverse)
    is_confirmed = any(ip_address(each.text) == address for each in found)
    return ClientName(reverse if is_confirmed else UNKNOWN, reverse)
