"""DEFER_IF_PERMIT and DEFER_IF_REJECT of access(5): a refusal that depends on what decides later in the phase."""

from attrs import frozen

from triosmtp.errors import Reject

__all__ = ["Deferral"]


@frozen(slots=True)
class Deferral:
    """What a policy returns in place of None: the phase goes on, and ends with this if the condition holds.

    ``if_permit`` is the refusal if nothing later refuses, ``if_reject`` the one in place of a permanent refusal.
    """

    if_permit: Reject | None = None
    if_reject: Reject | None = None

    def joined(self, later: "Deferral") -> "Deferral":
        """Return both conditions; of two of one kind, the first applies."""
        return Deferral(self.if_permit or later.if_permit, self.if_reject or later.if_reject)

    def refusal(self, code: int | None) -> Reject | None:
        """Return the refusal that takes the place of a phase's result: a refusal with ``code``, or None, no refusal."""
        if code is None:
            return self.if_permit
        return self.if_reject if code >= 500 else None
