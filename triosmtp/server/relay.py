"""Who may relay: the rules by which a recipient is accepted.  The default is to relay for nobody."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from attrs import frozen

from triosmtp.config import RelayClient, Settings
from triosmtp.domain import DomainError, name_key, pattern_key
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

__all__ = ["ClientList", "DomainList", "RelayRules", "SenderRules"]

_ROUTING: Final = frozenset("@%!")  # user%host@relay, host!user@relay, "user@host"@relay; as in Postfix


@frozen(slots=True)
class DomainList:
    """Domains, exact or left-globbed, to be asked about the key of a domain.

    ``*.example.com`` holds ``a.example.com`` and not ``example.com``; ``*example.com`` holds both, and whatever else
    ends so.
    """

    exact: frozenset[str]
    endings: tuple[str, ...]

    @classmethod
    def from_patterns(cls, patterns: tuple[str, ...]) -> "DomainList":
        """Sort patterns as they stand in the configuration into the two kinds.

        :raises DomainError: if one of them is none.
        """
        keys = [pattern_key(pattern) for pattern in patterns]
        return cls(
            frozenset(key for key in keys if not key.startswith("*")),
            tuple(key[1:] for key in keys if key.startswith("*")),
        )

    def __contains__(self, domain: str) -> bool:
        return domain in self.exact or (bool(self.endings) and domain.endswith(self.endings))


@frozen(slots=True)
class ClientList:
    """The clients of TLS_Relay_Clients, by what their certificates are or say."""

    fingerprints: frozenset[str]
    keys: frozenset[str]
    hosts: DomainList
    mailboxes: frozenset[str]

    @classmethod
    def from_entries(cls, clients: Iterable[RelayClient]) -> "ClientList":
        """Sort the entries by their kinds."""
        values: dict[str, list[str]] = {"sha256": [], "spki": [], "dns": [], "email": []}
        for client in clients:
            values[client.kind].append(client.value)
        return cls(
            frozenset(values["sha256"]),
            frozenset(values["spki"]),
            DomainList.from_patterns(tuple(values["dns"])),
            frozenset(filter(None, map(_mailbox_key, values["email"]))),
        )

    def holds(self, tls: TLSInfo) -> bool:
        """Whether the client of that handshake is in the list.

        By fingerprint it is whoever proved to hold the key, with or without an authority's word, unless a revocation
        list names the certificate; by name only where the certificate verified.
        """
        if tls.revoked:
            return False
        return self.lists_fingerprint_of(tls) or (tls.verified and any(map(self._names, tls.client_sans)))

    def lists_fingerprint_of(self, tls: TLSInfo) -> bool:
        """Whether the certificate of that handshake, or its key, is listed by fingerprint and not revoked."""
        if tls.revoked or tls.client_certificate is None:
            return False
        return tls.client_fingerprint_sha256 in self.fingerprints or tls.client_spki_sha256 in self.keys

    def _names(self, alternative_name: str) -> bool:
        kind, _, value = alternative_name.partition(":")
        if kind == "dns":
            # What is escaped or cut off here is no domain, whatever it ends with.  Nor is a wildcard.
            key = _key(value)
            return key is not None and key in self.hosts
        return kind == "email" and _mailbox_key(value) in self.mailboxes


def _key(name: str) -> str | None:
    """Return the key of a name in a certificate, where U-labels cannot stand (RFC 5280, section 7.2)."""
    try:
        return name_key(name) if name.isascii() else None
    except DomainError:
        return None


def _mailbox_key(address: str) -> str | None:
    """Return a mailbox in the form to compare: of the domain its key (RFC 5280, section 7.5), the rest as it is."""
    local_part, at, domain = address.rpartition("@")
    key = _key(domain)
    return None if key is None else local_part + at + key


@frozen(slots=True)
class SenderRules:
    """Whose mail is taken over TLS alone, or of clients with a certificate that counts.

    One counts if it verified, or if TLS_Relay_Clients lists it or its key by fingerprint; never if it is revoked.
    """

    everybody: bool
    """Whether all mail needs such a certificate."""
    verified: DomainList
    tls: DomainList
    clients: ClientList

    @classmethod
    def from_settings(cls, settings: Settings) -> "SenderRules | None":
        """Take the rules out of the options; None if there is none."""
        if not (settings.requires_verified_client or settings.require_tls_from):
            return None
        return cls(
            settings.tls_require_verified,
            DomainList.from_patterns(settings.tls_require_verified_from),
            DomainList.from_patterns(settings.require_tls_from),
            ClientList.from_entries(settings.tls_relay_clients),
        )

    def demand(self, sender: Address) -> tuple[str, bool]:
        """Return the option that holds for mail of ``sender``, or ``""``, and whether it needs a certificate."""
        if self.everybody:
            return "TLS_Require_Verified", True
        if sender and sender.domain_key in self.verified:
            return "TLS_Require_Verified_From", True
        if sender and sender.domain_key in self.tls:
            return "Require_TLS_From", False
        return "", False

    def accepts(self, tls: TLSInfo | None) -> bool:
        """Whether the certificate of a handshake counts."""
        return tls is not None and (tls.verified or self.clients.lists_fingerprint_of(tls))


@frozen(slots=True)
class RelayRules:
    """The relay rules of one resolved set of options."""

    domains: DomainList
    sending_domains: DomainList
    hosts: tuple[IPv4Network | IPv6Network, ...]
    open_relay: bool
    tls_domains: DomainList
    """Domains whose recipients are taken over TLS alone."""
    verified_peer: bool
    clients: ClientList | None
    """Who may relay by certificate; None: every one that verified."""
    untrusted_routing: bool = False
    """Whether a peer that may not relay may name a route in a recipient of ours."""
    senders: SenderRules | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "RelayRules":
        """Take the rules out of the options."""
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
        """Whether the peer may relay by its address alone."""
        return self.open_relay or (address is not None and any(address in network for network in self.hosts))

    def trusts_certificate(self, tls: TLSInfo | None) -> bool:
        """Whether the peer may relay by its certificate: by the handshake's own outcome, never by a variable."""
        if not self.verified_peer or tls is None or tls.client_certificate is None:
            return False
        return tls.verified if self.clients is None else self.clients.holds(tls)

    def trusts_sender(self, sender: Address) -> bool:
        """Whether mail of this sender may be relayed by its domain."""
        return bool(sender) and sender.domain_key in self.sending_domains

    def demands_tls(self, recipient: Address) -> bool:
        """Whether mail for the recipient is taken over TLS alone."""
        return bool(recipient.domain) and recipient.domain_key in self.tls_domains

    def is_local(self, recipient: Address) -> bool:
        """Whether the recipient is ours: a relay domain, or ``<postmaster>`` (RFC 5321, section 4.5.1)."""
        return not recipient.domain or recipient.domain_key in self.domains

    def is_barred_route(self, recipient: Address, path: str) -> bool:
        """Whether a recipient names a route that a peer may not use unless it may relay.

        ``path`` is the path of RCPT as it came.  A host behind this one may act on the route, and it trusts this one.
        """
        return not self.untrusted_routing and (path.startswith("<@") or not _ROUTING.isdisjoint(recipient.local_part))
