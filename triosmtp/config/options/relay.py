"""Who may relay."""

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.value import BOOLEAN, DOMAIN_PATTERNS, NETWORKS, Network

__all__ = ["RelayOptions"]


@frozen(slots=False, kw_only=True)
class RelayOptions:
    """Who may relay."""

    relay_domains: tuple[str, ...] = option(
        "Relay_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains that mail is accepted for: example.org itself, *.example.org all below it, *example.org both.",
    )
    relay_hosts: tuple[Network, ...] = option(
        "Relay_Hosts", NETWORKS, (), "Addresses and CIDR blocks of the clients that may relay; IPv6 without brackets."
    )
    open_relay: bool = option(
        "Open_Relay", BOOLEAN, False, "Whether whoever this holds for may relay: keep it to a Peer that is trusted."
    )
    relay_for_sending_domains: tuple[str, ...] = option(
        "Relay_For_Sending_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders may relay. Senders are the client's claim: keep it to a Peer that is trusted.",
    )
    allow_untrusted_routing: bool = option(
        "Allow_Untrusted_Routing",
        BOOLEAN,
        False,
        "Whether clients that may not relay may name a route in a recipient of Relay_Domains: user%host@example.org, "
        'host!user@example.org, "user@host"@example.org, @host:user@example.org. A server behind this one may act on '
        "it.",
    )
