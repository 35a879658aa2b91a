"""Rights by client certificate: each partner may send for its own domains, and may relay, by the key that it holds.

A key's fingerprint (``tls_client_cert_spki_sha256``) says who a client is even where no authority vouches for it, and it
stays the same when the certificate is renewed with the same key.  Print one from a certificate with:

    openssl x509 -in partner.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum
"""

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from triosmtp import DONE, Address, Policy, Reject, Session
from triosmtp.policy import Done


@frozen
class Partner:
    """What one partner may do."""

    name: str
    domains: tuple[str, ...]


class Partners(Policy):
    """Knows the partners from ``partners.json``: fingerprint of the key to name and sending domains."""

    def __init__(self) -> None:
        raw = json.loads(Path(__file__).with_name("partners.json").read_text(encoding="utf-8"))
        self._partners = {key: Partner(entry["name"], tuple(entry["domains"])) for key, entry in raw.items()}

    async def validate_starttls(self, session: Session, tls: object) -> None:  # noqa: ARG002 - session.tls is the same
        partner = self._partners.get(session.variables.get("tls_client_cert_spki_sha256", ""))
        if partner is not None:
            session.variables["partner"] = partner.name
            session.variables["can_relay"] = "true"

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]  # noqa: ARG002 - not needed here
    ) -> Done | None:
        partner = self._partners.get(session.variables.get("tls_client_cert_spki_sha256", ""))
        if partner is None:
            return None  # a stranger: the relay rules decide
        if sender.domain.lower() not in partner.domains:
            raise Reject(550, "5.7.1", f"{partner.name} does not send for this domain")
        return DONE
