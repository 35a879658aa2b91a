"""Relay rules: which recipients are accepted from which clients.  By default, no client may relay."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from attrs import frozen

from triosmtp.config import Settings
from triosmtp.server.client_list import ClientList, DomainList
from triosmtp.server.sender_rules import SenderRules
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

__all__ = ["RelayRules"]

_ROUTING: Final = frozenset("@%!")  # user%host@relay, host!user@relay, "user@host"@relay; as in Postfix


@frozen(slots=True)
class RelayRules:
    """The relay rules of one resolved set of options."""

    domains: DomainList
    sending_domains: DomainList
    hosts: tuple[IPv4Network | IPv6Network, ...]
    open_relay: bool
    tls_domains: DomainList
    """Domains whose recipients require TLS."""
    verified_peer: bool
    clients: ClientList | None
    """Clients that may relay by their certificate; None: every client with a verified one."""
    untrusted_routing: bool = False
    """Whether a peer that may not relay may use a route in a local recipient."""
    senders: SenderRules | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "RelayRules":
        """Return the rules of the options."""
        return cls(
            DomainList.from_patterns(settings.relay_domains),
            DomainList.from_patterns(settings.relay_for_sending_domains),
            settings.relay_hosts,
            settings.open_relay,
            DomainList.from_patterns(settings.require_tls_for),
            settings.tls_verified_peer_can_relay,
            ClientList.from_entries(settings.tls_relay_clients) if settings.tls_relay_clients else None,
            settings.allow_untrusted_routing,
            SenderRules.from_settings(settings),
        )

    def trusts_host(self, address: IPv4Address | IPv6Address | None) -> bool:
        """Return whether the peer may relay because of its address."""
        return self.open_relay or (address is not None and any(address in network for network in self.hosts))

    def trusts_certificate(self, tls: TLSInfo | None) -> bool:
        """Return whether the peer may relay because of its certificate, by the result of the handshake itself."""
        if not self.verified_peer or tls is None or tls.client_certificate is None:
            return False
        return tls.verified if self.clients is None else self.clients.holds(tls)

    def trusts_sender(self, sender: Address) -> bool:
        """Return whether mail of this sender may be relayed because of its domain."""
        return bool(sender) and sender.domain_key in self.sending_domains

    def demands_tls(self, recipient: Address) -> bool:
        """Return whether mail for the recipient requires TLS."""
        return bool(recipient.domain) and recipient.domain_key in self.tls_domains

    def is_local(self, recipient: Address) -> bool:
        """Return whether the recipient is local: in a relay domain, or ``<postmaster>`` (RFC 5321, section 4.5.1)."""
        return not recipient.domain or recipient.domain_key in self.domains

    def is_barred_route(self, recipient: Address, path: str) -> bool:
        """Return whether a recipient has a route that only a peer that may relay can use.

        ``path`` is the path of RCPT as it arrived.  The next host may follow the route, because it trusts this host.
        """
        return not self.untrusted_routing and (path.startswith("<@") or not _ROUTING.isdisjoint(recipient.local_part))
