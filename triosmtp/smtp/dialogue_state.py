"""The results of earlier commands that later ones depend on, and the error of a command that is not accepted."""

from attrs import define

from triosmtp.errors import TrioSMTPError
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.reply import Reply

__all__ = ["CommandError", "DialogueState"]


@define(slots=True)
class DialogueState:
    """What the meaning of a command depends on, apart from the :class:`~triosmtp.smtp.State`."""

    settings: ConnectionSettings
    errors: ErrorCounts
    tls: bool = False
    """Whether a handshake was completed on this connection."""
    esmtp: bool = False
    """Whether the last greeting was EHLO."""
    smtputf8: bool = False
    """Whether the transaction, or the MAIL that waits for its reply, has SMTPUTF8."""
    binary: bool = False
    """Whether the transaction, or the MAIL that waits for its reply, has BODY=BINARYMIME."""
    mechanisms: tuple[str, ...] = ()
    """The mechanisms of AUTH that are offered now."""
    tls_only_mechanisms: frozenset[str] = frozenset()
    """The mechanisms that would be offered over TLS."""
    authenticated: bool = False
    """Whether AUTH succeeded."""
    pipelined_after_refusal: bool = False
    """Whether MAIL, RCPT or a chunk was refused after the octets that are read now had been received.  Then a RCPT,
    DATA or BDAT out of sequence is not an error of the client."""

    def offers(self, extension: str) -> bool:
        """Return whether one of :attr:`ConnectionSettings.extensions` may be used now."""
        if extension == "AUTH":
            return bool(self.mechanisms)
        return extension in self.settings.extensions and (self.tls or extension != "REQUIRETLS")

    @property
    def starttls_offered(self) -> bool:
        """Whether STARTTLS may be used now."""
        return self.settings.starttls and not self.tls


class CommandError(TrioSMTPError):
    """A command that cannot be accepted: the reply, and the reason for the log."""

    def __init__(self, reply: Reply, reason: str, *, counts: bool = True) -> None:
        self.reply = reply
        self.reason = reason
        self.counts = counts
        super().__init__(reason)
