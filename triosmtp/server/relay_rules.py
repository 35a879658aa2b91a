"""Relay rules: which recipients are accepted from which clients.  By default, no client may relay."""

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
    """Domains, exact or left-globbed, for the key of a domain.

    ``*.example.com`` contains ``a.example.com`` and not ``example.com``.  ``*example.com`` contains both, and every
    other domain with this ending.
    """

    exact: frozenset[str]
    endings: tuple[str, ...]

    @classmethod
    def from_patterns(cls, patterns: tuple[str, ...]) -> "DomainList":
        """Sort the patterns of an option into exact and left-globbed ones.

        :raises DomainError: if one of them is not a domain.
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
    """The clients of TLS_Relay_Clients, by fingerprints or names of their certificates."""

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
        """Return whether the client of a handshake is in the list.

        A fingerprint identifies every client that has the key, with or without a verified certificate, unless the
        certificate is revoked.  A name identifies a client only if its certificate is verified.
        """
        if tls.revoked:
            return False
        return self.lists_fingerprint_of(tls) or (tls.verified and any(map(self._names, tls.client_sans)))

    def lists_fingerprint_of(self, tls: TLSInfo) -> bool:
        """Return whether the certificate of a handshake, or its key, is listed by fingerprint and not revoked."""
        if tls.revoked or tls.client_certificate is None:
            return False
        return tls.client_fingerprint_sha256 in self.fingerprints or tls.client_spki_sha256 in self.keys

    def _names(self, alternative_name: str) -> bool:
        kind, _, value = alternative_name.partition(":")
        if kind == "dns":
            # A name that was escaped or cut is not a domain.  A wildcard is not one, either.
            key = _key(value)
            return key is not None and key in self.hosts
        return kind == "email" and _mailbox_key(value) in self.mailboxes


def _key(name: str) -> str | None:
    """Return the key of a name in a certificate, which has no U-labels (RFC 5280, section 7.2)."""
    try:
        return name_key(name) if name.isascii() else None
    except DomainError:
        return None


def _mailbox_key(address: str) -> str | None:
    """Return a mailbox in the form for comparison: with the key of the domain (RFC 5280, section 7.5)."""
    local_part, at, domain = address.rpartition("@")
    key = _key(domain)
    return None if key is None else local_part + at + key


@frozen(slots=True)
class SenderRules:
    """Senders whose mail requires TLS, or a client certificate that counts.

    A certificate counts if it is verified, or if TLS_Relay_Clients lists it or its key by fingerprint.  A revoked one
    never counts.
    """

    everybody: bool
    """Whether all mail requires such a certificate."""
    verified: DomainList
    tls: DomainList
    clients: ClientList

    @classmethod
    def from_settings(cls, settings: Settings) -> "SenderRules | None":
        """Return the rules of the options; None if there are none."""
        if not (settings.requires_verified_client or settings.require_tls_from):
            return None
        return cls(
            settings.tls_require_verified,
            DomainList.from_patterns(settings.tls_require_verified_from),
            DomainList.from_patterns(settings.require_tls_from),
            ClientList.from_entries(settings.tls_relay_clients),
        )

    def demand(self, sender: Address) -> tuple[str, bool]:
        """Return the option for mail of ``sender``, or ``""``, and whether it requires a certificate."""
        if self.everybody:
            return "TLS_Require_Verified", True
        if sender and sender.domain_key in self.verified:
            return "TLS_Require_Verified_From", True
        if sender and sender.domain_key in self.tls:
            return "Require_TLS_From", False
        return "", False

    def accepts(self, tls: TLSInfo | None) -> bool:
        """Return whether the certificate of a handshake counts."""
        return tls is not None and (tls.verified or self.clients.lists_fingerprint_of(tls))


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
