"""Counters that end a dialogue without progress: errors, and commands that do nothing for a message."""

from typing import Final

from attrs import define

from triosmtp.smtp.connection_settings import ConnectionSettings

__all__ = ["MAX_PIPELINED_AFTER_REFUSAL", "ErrorCounts"]

MAX_PIPELINED_AFTER_REFUSAL: Final = 1000
"""Commands after a refusal that do not count as errors, between two accepted messages: as many as the recipients of a
message."""


@define(slots=True)
class ErrorCounts:
    """Counts since the connection began or a message was last accepted.  A handshake or XCLIENT does not reset them."""

    settings: ConnectionSettings
    errors: int = 0
    """Errors and refusals, for :attr:`ConnectionSettings.max_command_errors`."""
    junk: int = 0
    """Commands that do nothing for a message, for :attr:`ConnectionSettings.max_junk_commands`."""
    pipelined: int = 0
    """Commands that were out of sequence only because a command before them in the pipelined group was refused."""

    def count_error(self) -> bool:
        """Count an error or a refusal; return whether the limit is exceeded."""
        self.errors += 1
        return 0 < self.settings.max_command_errors < self.errors

    def count_junk(self) -> bool:
        """Count a command that does nothing for a message; return whether the limit is exceeded."""
        self.junk += 1
        return 0 < self.settings.max_junk_commands < self.junk

    def count_pipelined(self) -> bool:
        """Count a command that was pipelined behind a refused one; return whether it need not count as an error."""
        if self.pipelined >= MAX_PIPELINED_AFTER_REFUSAL:
            return False
        self.pipelined += 1
        return True

    def reset(self) -> None:
        """Set all counts to 0: a message was accepted."""
        self.errors = self.junk = self.pipelined = 0
