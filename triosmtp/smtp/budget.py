"""What a dialogue may do without a message before it is ended: errors, commands that do nothing, and excuses."""

from typing import Final

from attrs import define

from triosmtp.smtp.rules import Rules

__all__ = ["MAX_EXCUSED", "Budget"]

MAX_EXCUSED: Final = 1000
"""Commands excused at most between two accepted messages: as many as one message has recipients."""


@define(slots=True)
class Budget:
    """Counts since the connection began or a message was last accepted.  A handshake or XCLIENT does not renew them."""

    rules: Rules
    errors: int = 0
    """Refusals that count in :attr:`Rules.max_command_errors`."""
    junk: int = 0
    """What counts in :attr:`Rules.max_junk_commands`."""
    excuses: int = 0
    """Commands that were out of sequence only because what was pipelined before them was refused."""

    def add_error(self) -> bool:
        """Count an error or a refusal; return whether it is one too many."""
        self.errors += 1
        return 0 < self.rules.max_command_errors < self.errors

    def add_junk(self) -> bool:
        """Count a command that does nothing for a message; return whether it is one too many."""
        self.junk += 1
        return 0 < self.rules.max_junk_commands < self.junk

    def excuse(self) -> bool:
        """Count an excuse; return whether there was one left."""
        if self.excuses >= MAX_EXCUSED:
            return False
        self.excuses += 1
        return True

    def renew(self) -> None:
        """Begin anew: a message was accepted."""
        self.errors = self.junk = self.excuses = 0
