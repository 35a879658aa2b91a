"""The connection of one SMTP session to a milter, and what the milter was asked about so far.

A policy that stands before the milter may end a phase (DONE), and then the milter is not asked.  So a conversation
knows which steps are missing.
"""

from collections.abc import Callable, Mapping

from attrs import Factory, define

from triosmtp.filters.milter_codec import Verdict
from triosmtp.filters.milter_link import MilterLink
from triosmtp.message import Envelope
from triosmtp.policy import Session
from triosmtp.smtp import Address

__all__ = ["MilterConversation"]


@define(slots=True, eq=False)
class MilterConversation:
    """The connection of one SMTP session to the milter, and its state.  It does not know the session."""

    report_closed: Callable[[], None]
    link: MilterLink | None = None
    accepted: bool = False
    """Whether the milter wants no more of this session."""
    accepted_hello: bool = False
    """Whether it wants no more until the client greets again."""
    refusal: Verdict | None = None
    """The verdict at CONNECT or HELO that refuses every command."""
    refused_hello: bool = False
    in_message: bool = False
    """Whether the milter has a message that is not over."""
    message_over: bool = False
    """Whether it wants no more of this message."""
    failed: bool = False
    """Whether it failed within this message."""
    sender: Address | None = None
    parameters: Mapping[str, str | None] = {}
    number: int = 0
    """Number, sender and parameters of the message that the milter was asked about at MAIL."""
    recipients: set[Address] = Factory(set)
    """The recipients of the message that it was asked about."""
    has_all_recipients: bool = False
    """Whether that is all of them: those that policies add at the end of the message are not among them."""
    _envelope: Envelope | None = None
    hello: str = ""
    """The name in the last HELO that it was asked about."""

    def begin_message(self, session: Session, sender: Address, parameters: Mapping[str, str | None]) -> None:
        """Forget the message before."""
        self.end_message()
        self.sender, self.parameters = sender, parameters
        self.number = session.transactions + (session.envelope is None)
        self.recipients, self.has_all_recipients, self._envelope = set(), False, session.envelope

    def knows_message(self, session: Session) -> bool:
        """Return whether the milter was asked about MAIL: if an earlier policy ended that phase, it was not."""
        envelope = session.envelope
        if envelope is None or self._envelope is envelope:
            return True
        asked = self.number, self.sender, self.parameters
        if self._envelope is not None or asked != (session.transactions, envelope.sender, envelope.parameters):
            return False
        self._envelope = envelope  # a policy may change what is in it
        return True

    def end_message(self) -> None:
        """Let the milter forget a message that did not come to its end."""
        if self.in_message and self.link is not None:
            self.link.abort()
        self.in_message = self.message_over = self.failed = False
        self.number, self._envelope = 0, None

    def start_over(self) -> None:
        """Begin again, with another client."""
        self.close()
        self.accepted = self.accepted_hello = self.refused_hello = False
        self.end_message()
        self.refusal, self.sender, self.hello = None, None, ""

    def close(self) -> None:
        """End the conversation."""
        if self.link is not None:
            if not self.link.closed:
                self.link.close()
            self.link = None
            self.report_closed()
