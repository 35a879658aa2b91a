"""Errors of a next hop that are no answer about sender, recipient or message: the client receives 451."""

from triosmtp.errors import TrioSMTPError

__all__ = ["HopBusyError", "HopError"]


class HopError(TrioSMTPError):
    """A next hop cannot be used now; the text is for the log, and may quote the hop.

    ``gone`` is whether the connection ended, or was never made: another connection may work.
    """

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        self.gone = gone
        super().__init__(reason)


class HopBusyError(HopError):
    """No connection became free in time: the fault of load, not of the hop."""
