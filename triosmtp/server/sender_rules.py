"""Sender rules: whose mail is accepted over TLS alone, or with a client certificate alone."""

from attrs import frozen

from triosmtp.config import Settings
from triosmtp.server.client_list import ClientList, DomainList
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

__all__ = ["SenderRules"]


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
