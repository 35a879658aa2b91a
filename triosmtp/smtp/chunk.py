"""A BDAT whose octets arrive: they are counted out whatever it is answered with (RFC 3030)."""

from attrs import frozen

from triosmtp.smtp.command import COMMANDS, State
from triosmtp.smtp.fact import CommandError, Facts
from triosmtp.smtp.fault import BAD_SEQUENCE, NOT_IMPLEMENTED, TLS_FIRST
from triosmtp.smtp.reply import Reply

__all__ = ["ChunkState", "chunk_error"]


@frozen(slots=True)
class ChunkState:
    """A chunk whose octets arrive: what it is answered with, and where the dialogue stood before."""

    line: bytes
    before: State
    last: bool = False
    error: CommandError | None = None


def chunk_error(facts: Facts, state: State, refusal: Reply | None, *, switch_due: bool) -> CommandError | None:
    """Return why a BDAT in ``state`` is refused, None if it is not; ``refusal`` is what every command is answered."""
    row = COMMANDS[b"BDAT"]
    if not facts.offers("CHUNKING"):
        return CommandError(NOT_IMPLEMENTED, "CHUNKING is not offered")
    if state is State.REFUSED:
        return CommandError(BAD_SEQUENCE, "a command after the banner was a refusal")
    if refusal is not None:
        return CommandError(refusal, "refused before")
    if facts.rules.require_tls and not facts.tls:
        return CommandError(TLS_FIRST, "TLS is required")
    if state not in row.moves or switch_due:
        return row.out_of_sequence(state, facts)
    return None
