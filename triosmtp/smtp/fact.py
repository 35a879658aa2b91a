"""What a dialogue has established, and what a command that cannot be taken is."""

from attrs import define

from triosmtp.errors import TrioSMTPError
from triosmtp.smtp.budget import Budget
from triosmtp.smtp.reply import Reply
from triosmtp.smtp.rules import Rules

__all__ = ["CommandError", "Facts"]


@define(slots=True)
class Facts:
    """What the dialogue has established, beside its state, that the meaning of a command depends on."""

    rules: Rules
    budget: Budget
    tls: bool = False
    """Whether a handshake was done on this connection."""
    esmtp: bool = False
    """Whether the latest hello was an EHLO."""
    smtputf8: bool = False
    """Whether the transaction, or the MAIL that waits for its reply, asked for SMTPUTF8."""
    binary: bool = False
    """Whether, likewise, it asked for BODY=BINARYMIME."""
    mechanisms: tuple[str, ...] = ()
    """The mechanisms of AUTH that are offered now."""
    withheld: frozenset[str] = frozenset()
    """Those that would be offered over TLS."""
    authenticated: bool = False
    """Whether AUTH succeeded."""
    excused: bool = False
    """Whether MAIL, RCPT or a chunk was refused, and what is read now was received before that refusal was written:
    a pipelined RCPT, DATA or BDAT is out of sequence through no fault."""

    def offers(self, extension: str) -> bool:
        """Whether one of the extensions of :attr:`Rules.extensions` may be used now."""
        if extension == "AUTH":
            return bool(self.mechanisms)
        return extension in self.rules.extensions and (self.tls or extension != "REQUIRETLS")

    @property
    def starttls_offered(self) -> bool:
        """Whether STARTTLS may be used now."""
        return self.rules.starttls and not self.tls


class CommandError(TrioSMTPError):
    """A command that cannot be taken: the reply to give, and the reason for the log."""

    def __init__(self, reply: Reply, reason: str, *, counts: bool = True) -> None:
        self.reply = reply
        self.reason = reason
        self.counts = counts
        super().__init__(reason)
