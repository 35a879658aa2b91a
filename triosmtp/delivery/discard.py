"""Delivery that discards mail, for tests, benchmarks and servers that only count."""

from typing import TYPE_CHECKING

from triosmtp.delivery.delivery import Delivery

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Message

__all__ = ["Discard"]


class Discard(Delivery):
    """Accepts every message and keeps nothing."""

    honours = frozenset({"BINARYMIME", "MT-PRIORITY", "REQUIRETLS"})

    async def deliver(self, message: "Message") -> None:
        """Return at once."""

    def __str__(self) -> str:
        return "discard:"
