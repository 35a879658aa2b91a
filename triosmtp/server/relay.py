"""Who may relay: the rules by which a recipient is accepted.  The default is to relay for nobody."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from triosmtp.config import Settings
from triosmtp.smtp import Address, domain_key
from triosmtp.variables import TLSInfo

__all__ = ["DomainList", "RelayRules"]


@frozen(slots=True)
class DomainList:
    """Domains, exact or left-globbed, without regard to case.

    ``*.example.com`` holds ``a.example.com`` and not ``example.com``; ``*example.com`` holds both, and whatever else
    ends so.
    """

    exact: frozenset[str]
    endings: tuple[str, ...]

    @classmethod
    def of(cls, patterns: tuple[str, ...]) -> "DomainList":
        """Sort patterns as they stand in the configuration into the two kinds."""
        return cls(
            frozenset(domain_key(p) for p in patterns if not p.startswith("*")),
            tuple(domain_key(p[1:]) for p in patterns if p.startswith("*")),
        )

    def __contains__(self, domain: str) -> bool:
        return domain in self.exact or (bool(self.endings) and domain.endswith(self.endings))


@frozen(slots=True)
class RelayRules:
    """The relay rules of one resolved set of options."""

    domains: DomainList
    sending_domains: DomainList
    hosts: tuple[IPv4Network | IPv6Network, ...]
    open_relay: bool
    verified_peer: bool

    @classmethod
    def of(cls, settings: Settings) -> "RelayRules":
        """Take the rules out of the options."""
        return cls(
            DomainList.of(settings.relay_domains),
            DomainList.of(settings.relay_for_sending_domains),
            settings.relay_hosts,
            settings.open_relay,
            settings.tls_verified_peer_can_relay,
        )

    def trusts_host(self, address: IPv4Address | IPv6Address | None) -> bool:
        """Whether the peer may relay by its address alone."""
        return self.open_relay or (address is not None and any(address in network for network in self.hosts))

    def trusts_certificate(self, tls: TLSInfo | None) -> bool:
        """Whether the peer may relay by its certificate: by the handshake's own outcome, never by a variable."""
        return self.verified_peer and tls is not None and tls.verified

    def trusts_sender(self, sender: Address) -> bool:
        """Whether mail of this sender may be relayed by its domain."""
        return bool(sender) and sender.domain_key in self.sending_domains

    def is_local(self, recipient: Address) -> bool:
        """Whether the recipient is ours: a relay domain, or ``<postmaster>`` (RFC 5321, section 4.5.1)."""
        return not recipient.domain or recipient.domain_key in self.domains
