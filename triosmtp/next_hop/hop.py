"""The state that all transactions of one next hop share."""

import trio
from attrs import frozen

from triosmtp.delivery import RecipientResult, TargetContext
from triosmtp.next_hop.hop_answer import deferred
from triosmtp.next_hop.hop_connector import HopConnector
from triosmtp.next_hop.hop_error import HopBusyError, HopError
from triosmtp.next_hop.hop_pool import HopPool
from triosmtp.next_hop.hop_settings import HopSettings

__all__ = ["Hop"]


@frozen(slots=True, eq=False)
class Hop:
    """One next hop: its settings, its connections, and what the server records about it."""

    settings: HopSettings
    context: TargetContext
    connector: HopConnector
    pool: HopPool

    def failed(self, error: HopError) -> RecipientResult:
        """Record a failure of the hop, and return the result for each recipient that it concerns."""
        if not isinstance(error, HopBusyError):
            self.context.health.failed(str(error))
        return deferred(error)

    def answered(self, began: float) -> None:
        """Record that the hop has answered the step that began at ``began``, on Trio's clock."""
        self.context.health.succeeded(trio.current_time() - began)
