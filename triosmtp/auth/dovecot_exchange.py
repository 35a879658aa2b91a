"""An exchange whose mechanism runs in an authentication service: its octets are passed on in both directions."""

from collections.abc import Callable
from typing import Final

from triosmtp.auth.dovecot_codec import Continued, Failed, Succeeded
from triosmtp.auth.sasl_exchange import AuthServiceError, Challenge, Claim, Exchange, Relay

__all__ = ["READABLE_SECRETS", "relay_exchange"]

READABLE_SECRETS: Final = frozenset({"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"})
"""The mechanisms that send a password or a token in clear text."""


def relay_exchange(initial: bytes | None, abandon: Callable[[], None]) -> Exchange:
    """Run any mechanism.  ``abandon`` is called if the exchange ends before the service has decided.

    That is the case too if the generator is dropped, as at the end of the session.

    :raises AuthServiceError: if the service could not check the attempt.
    """
    decided = False
    try:
        answer = yield Relay(initial)
        while isinstance(answer, Continued):
            response = yield Challenge(answer.data)
            assert isinstance(response, bytes)
            answer = yield Relay(response)
        decided = True
    finally:
        if not decided:
            abandon()
    if isinstance(answer, Failed):
        if answer.is_temporary:
            raise AuthServiceError(answer.reason)
        return Claim(user=answer.user, reason=answer.reason)
    assert isinstance(answer, Succeeded)
    return Claim(user=answer.user, proven=True)
