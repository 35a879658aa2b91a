"""Rights by client certificate: each partner may send for its own domains, and may relay, by the key that it holds.

The fingerprint of a key identifies a client without any authority.  It stays the same if the certificate is renewed
with the same key.  The variable is `tls_client_cert_spki_sha256`.  To print it from a certificate:

    openssl x509 -in partner.pem -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r
"""

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from triosmtp import DONE, Address, Policy, Reject, Session, TLSInfo
from triosmtp.policy import Done


@frozen
class Partner:
    """The rights of one partner."""

    name: str
    domains: tuple[str, ...]


class Partners(Policy):
    """Knows the partners from ``partners.json``: fingerprint of the key to name and sending domains."""

    def __init__(self) -> None:
        raw = json.loads(Path(__file__).with_name("partners.json").read_text(encoding="utf-8"))
        self._partners = {key: Partner(entry["name"], tuple(entry["domains"])) for key, entry in raw.items()}

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> None:
        partner = self._partner(tls)
        if partner is not None:
            session.variables["partner"] = partner.name
            session.variables["can_relay"] = "true"

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        partner = self._partner(session.tls)
        if partner is None:
            return None  # unknown: the relay rules decide
        if sender and sender.domain.lower() not in partner.domains:  # the null sender of a bounce is anybody's
            raise Reject(550, "5.7.1", f"{partner.name} does not send for this domain")
        return DONE

    def _partner(self, tls: TLSInfo | None) -> Partner | None:
        key = None if tls is None else tls.client_spki_sha256
        return None if key is None else self._partners.get(key)
