"""A BDAT command while its octets arrive (RFC 3030).  They are never read as commands, also if BDAT is refused."""

from attrs import frozen

from triosmtp.smtp.command import COMMANDS, State
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.fixed_replies import BAD_SEQUENCE, NOT_IMPLEMENTED, TLS_FIRST
from triosmtp.smtp.reply import Reply

__all__ = ["PendingBdat", "bdat_error"]


@frozen(slots=True)
class PendingBdat:
    """A BDAT whose octets arrive: its line, the state before it, and the error if it is refused."""

    line: bytes
    before: State
    last: bool = False
    error: CommandError | None = None


def bdat_error(
    dialogue: DialogueState, state: State, refusal: Reply | None, *, switch_due: bool
) -> CommandError | None:
    """Return the error of a BDAT in ``state``, or None.  ``refusal`` is the reply to all commands, or None."""
    row = COMMANDS[b"BDAT"]
    if not dialogue.offers("CHUNKING"):
        return CommandError(NOT_IMPLEMENTED, "CHUNKING is not offered")
    if state is State.REFUSED:
        return CommandError(BAD_SEQUENCE, "a command after the banner refused the client")
    if refusal is not None:
        return CommandError(refusal, "all commands are refused")
    if dialogue.settings.require_tls and not dialogue.tls:
        return CommandError(TLS_FIRST, "TLS is required")
    if state not in row.transitions or switch_due:
        return row.out_of_sequence(state, dialogue)
    return None
