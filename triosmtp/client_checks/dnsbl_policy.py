"""The policy that refuses clients by lists in the DNS (DNSBL_Sites)."""

from collections.abc import Mapping, Sequence

from triosmtp.client_checks.dnsbl import find_listings, shown_domain
from triosmtp.client_checks.exemption import is_exempt
from triosmtp.config.types.dnsbl_site import DNSBLSite
from triosmtp.dns_client import DNSResolver
from triosmtp.errors import Reject
from triosmtp.policy import Done, Policy, Session
from triosmtp.smtp import Address

__all__ = ["DNSBLPolicy", "score_of"]

_SCORE, _SITES, _ADDRESS = "dnsbl_score", "dnsbl_sites", "dnsbl_address"


def score_of(session: Session) -> int:
    """Return the sum of the weights of the lists that have the client's address; 0 before they were asked."""
    try:
        return int(session.variables.get(_SCORE, "0"))
    except ValueError:  # another policy has written it
        return 0


class DNSBLPolicy(Policy):
    """Refuses at RCPT if the weights of the lists that have the client's address reach ``threshold``.

    The lists are asked once for each client, at its first recipient.  The variables ``dnsbl_score`` and ``dnsbl_sites``
    have the result.
    """

    def __init__(self, resolver: DNSResolver, sites: Sequence[DNSBLSite], threshold: int, seconds: float) -> None:
        self._resolver = resolver
        self._sites = tuple(sites)
        self._threshold = threshold
        self._seconds = seconds

    @property
    def source(self) -> str:
        """``DNSBL_Sites``."""
        return "DNSBL_Sites"

    async def validate_rcptto(
        self, session: Session, recipient: Address, _parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Refuse a listed client.

        :raises Reject: if it is listed.
        """
        address, variables = session.peer_address, session.variables
        if address is None or is_exempt(session, recipient):
            return None
        if variables.get(_ADDRESS) != str(address):
            found = await find_listings(self._resolver, self._sites, address, self._seconds)
            sites = ",".join(dict.fromkeys(map(shown_domain, found.sites)))
            variables.record({_ADDRESS: str(address), _SCORE: str(found.score), _SITES: sites})
        score = score_of(session)
        if not self._threshold or score < self._threshold:
            return None
        text = f"Service unavailable; client [{address}] blocked using {variables.get(_SITES, '')}"
        raise Reject(554, "5.7.1", text, reason=f"score {score}", decided_by=self.source)
