"""The result of one recipient, and what identifies the recipient when the message comes again."""

import hashlib
from typing import Final

from attrs import field, frozen

from triosmtp.errors import Reject

__all__ = ["DELIVERED", "RecipientKey", "RecipientResult"]


@frozen(slots=True)
class RecipientResult:
    """The answer of a target about one recipient, or about the message for that recipient.

    ``code``, ``enhanced`` and ``text`` are for the client; ``reason`` is for the log.  The code decides:
    2xx is delivered (at RCPT: accepted), 4xx is to be tried again, 5xx is refused for good.
    """

    code: int
    enhanced: str = ""
    text: str = ""
    reason: str = ""
    answer: str = field(default="", eq=False)
    """The answer of the target in its own words, for the log; ``""`` if there is none."""

    @property
    def is_delivered(self) -> bool:
        """Whether the target has the message, or accepted the recipient."""
        return self.code < 400

    @property
    def is_deferred(self) -> bool:
        """Whether it is to be tried again."""
        return 400 <= self.code < 500

    @classmethod
    def of_reject(cls, reject: Reject) -> "RecipientResult":
        """Return the result of a :class:`~triosmtp.Reject`."""
        return cls(reject.code, reject.enhanced, reject.text, reject.reason or reject.text)


DELIVERED: Final = RecipientResult(250)


@frozen(slots=True)
class RecipientKey:
    """A recipient of a message at a target."""

    sender: str
    recipient: str
    target: str

    def digest(self) -> bytes:
        """Return the digest that the file holds: it has no addresses."""
        return hashlib.sha256("\0".join((self.sender, self.recipient, self.target)).encode("utf-8", "replace")).digest()
