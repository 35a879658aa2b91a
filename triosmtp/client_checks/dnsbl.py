"""Asks lists in the DNS about an address (RFC 5782), and adds their weights.

Only answers in 127.0.0.0/8 are listings.  Those in 127.255.255.0/24 are errors of the list: a wrong key, too many
questions, a public resolver.  No answer is no listing.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import trio
from attrs import frozen

from triosmtp.config.types.dnsbl_site import DNSBLSite
from triosmtp.dns_client import DNSError, DNSResolver

__all__ = ["Listings", "find_listings", "shown_domain"]

_LONGEST_LABEL: Final = 16
"""A longer label of a site is taken for the key of a customer, and not shown to clients."""


@frozen(slots=True)
class Listings:
    """The sites that list an address, and the sum of their weights."""

    sites: tuple[DNSBLSite, ...] = ()
    score: int = 0


async def find_listings(
    resolver: DNSResolver, sites: Sequence[DNSBLSite], address: IPv4Address | IPv6Address, seconds: float
) -> Listings:
    """Ask all domains of ``sites`` about ``address`` at once; those that have no answer in ``seconds`` do not count."""
    answers: dict[str, list[bytes]] = {}
    question = _reversed(address)

    async def ask(domain: str) -> None:
        try:
            found = await resolver.look_up(f"{question}.{domain}", "A", seconds)
        except DNSError:
            return
        answers[domain] = [packed for packed in (ip_address(each.text).packed for each in found) if _is_listing(packed)]

    async with trio.open_nursery() as nursery:
        for domain in dict.fromkeys(site.domain for site in sites):
            nursery.start_soon(ask, domain)
    listed = tuple(site for site in sites if _lists(site, answers.get(site.domain, ())))
    return Listings(listed, sum(site.weight for site in listed))


def _reversed(address: IPv4Address | IPv6Address) -> str:
    """Return the labels of an address in a list: its octets, or its hexadecimal digits, the last one first."""
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _is_listing(packed: bytes) -> bool:
    return packed[0] == 127 and packed[:3] != b"\x7f\xff\xff"


def _lists(site: DNSBLSite, answers: Sequence[bytes]) -> bool:
    return any(site.answers is None or packed in site.answers for packed in answers)


def shown_domain(site: DNSBLSite) -> str:
    """Return the domain of a site without labels that may be the key of a customer."""
    return ".".join(label for label in site.domain.split(".") if len(label) <= _LONGEST_LABEL)
