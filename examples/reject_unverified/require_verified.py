"""Refuse mail from clients whose certificate did not verify, without ending their session.

The handshake always completes; its outcome is in ``session.tls``.  The refusal is the reply to MAIL FROM, so the
client can log it, try another route, or send QUIT.
"""

from collections.abc import Mapping

from triosmtp import Address, Policy, Reject, Session


class RequireVerified(Policy):
    """Takes mail over TLS with a verified client certificate, and none other."""

    async def validate_mailfrom(self, session: Session, sender: Address, parameters: Mapping[str, str | None]) -> None:
        if session.tls is None:
            raise Reject(530, "5.7.0", "Must issue a STARTTLS command first")
        if not session.tls.verified:
            raise Reject(
                550,
                "5.7.1",
                "Your TLS client certificate could not be verified",
                reason=f"<{sender}> from {session.peer}: {session.tls.verify_error}",
            )
