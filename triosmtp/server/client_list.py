"""Lists of domains, and of clients by their certificates, for the rules of relaying and of senders."""

from collections.abc import Iterable

from attrs import frozen

from triosmtp.config import RelayClient
from triosmtp.domain import DomainError, name_key, pattern_key
from triosmtp.variables import TLSInfo

__all__ = ["ClientList", "DomainList"]


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
