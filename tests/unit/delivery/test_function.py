"""Delivery to an async function: its refusals, its failures, and its signature."""

from collections.abc import Callable

import pytest

from triosmtp.delivery import DeliveryError, FunctionDelivery
from triosmtp.errors import Reject
from triosmtp.message import Message

MessageMaker = Callable[..., Message]


async def test_a_function_delivers(make_message: MessageMaker) -> None:
    seen: list[str] = []

    async def take(message: Message) -> None:
        seen.append(message.id)

    await FunctionDelivery(take).deliver(make_message())
    assert seen == ["s1-1"]


@pytest.mark.parametrize("error", [Reject(550, "5.7.1", "no"), DeliveryError("disk", storage=True)])
async def test_a_function_refuses(make_message: MessageMaker, error: Exception) -> None:
    async def refuse(_message: Message) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await FunctionDelivery(refuse).deliver(make_message())
    assert caught.value is error


async def test_a_function_fails(make_message: MessageMaker, log: pytest.LogCaptureFixture) -> None:
    async def fail(_message: Message) -> None:
        raise KeyError("gone")

    with pytest.raises(DeliveryError) as caught:
        await FunctionDelivery(fail).deliver(make_message())
    assert (caught.value.code, caught.value.enhanced) == (451, "4.3.0")
    assert "gone" not in caught.value.text
    assert "KeyError: 'gone'" in caught.value.reason
    assert "Traceback" in log.text
