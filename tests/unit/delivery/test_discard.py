"""The delivery that discards mail."""

from collections.abc import Callable

from triosmtp.delivery.discard import Discard
from triosmtp.message import Message


async def test_it_accepts_a_message_and_keeps_nothing(make_message: Callable[..., Message]) -> None:
    delivery = Discard()
    await delivery.deliver(make_message())
    assert str(delivery) == "discard:"
    assert "DSN" not in delivery.honours, "a discarded message cannot be reported"


MessageMaker = Callable[..., Message]


async def test_discard_and_close(make_message: MessageMaker) -> None:
    delivery = Discard()
    await delivery.deliver(make_message())
    await delivery.aclose()
    await delivery.aclose()
