"""The policy that asks clients to come again (Greylist)."""

from collections.abc import Mapping
from math import ceil

from triosmtp.client_checks.dnsbl_policy import score_of
from triosmtp.client_checks.exemption import is_exempt
from triosmtp.client_checks.greylist import GreylistStore, keys_of
from triosmtp.errors import Reject
from triosmtp.policy import Done, Policy, Session
from triosmtp.policy.deferral import Deferral
from triosmtp.smtp import Address

__all__ = ["GreylistPolicy"]


class GreylistPolicy(Policy):
    """Answers RCPT with 450, if nothing refuses it, until ``delay`` seconds after the first attempt.

    A client whose certificate verified does not wait, nor does one whose ``dnsbl_score`` is at or below
    ``allow_threshold`` (0: none).
    """

    def __init__(self, store: GreylistStore, delay: float, allow_threshold: int = 0) -> None:
        self._store = store
        self._delay = delay
        self._allow_threshold = allow_threshold

    @property
    def source(self) -> str:
        """``Greylist``."""
        return "Greylist"

    async def validate_rcptto(  # type: ignore[override]
        self, session: Session, recipient: Address, _parameters: Mapping[str, str | None]
    ) -> Done | Deferral | None:
        """Return the refusal of a message that waits; it holds if nothing else refuses the recipient."""
        address, envelope, tls = session.peer_address, session.envelope, session.tls
        if address is None or envelope is None or is_exempt(session, recipient):
            return None
        if tls is not None and tls.verified:
            return None
        if self._allow_threshold and score_of(session) <= self._allow_threshold:
            return None
        seconds = ceil(await self._store.wait(keys_of(address, envelope.sender, recipient), self._delay))
        if not seconds:
            return None
        reject = Reject(
            450, "4.7.1", f"Greylisted, try again in {seconds} seconds", reason="first attempt", decided_by=self.source
        )
        return Deferral(if_permit=reject)
