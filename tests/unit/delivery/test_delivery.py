from collections.abc import Callable
from pathlib import Path

import pytest

from triosmtp.delivery import DeliveryError, Discard, FunctionDelivery, Maildir, parse_delivery
from triosmtp.errors import Reject
from triosmtp.message import Message

MessageMaker = Callable[..., Message]


def test_specifications() -> None:
    maildir = parse_delivery("maildir:/var/mail/in")
    assert isinstance(maildir, Maildir)
    assert maildir.path == Path("/var/mail/in")
    assert isinstance(parse_delivery("DISCARD:"), Discard)
    for text in ("maildir:/var/mail/in", "discard:"):
        assert str(parse_delivery(text)) == text


@pytest.mark.parametrize("text", ["", "mbox:/x", "discard", "/var/mail"])
def test_unknown_schemes_name_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="maildir:/path, discard:"):
        parse_delivery(text)


@pytest.mark.parametrize("text", ["maildir:", "maildir:mail", "maildir:/a\x00b", "discard:/x"])
def test_arguments_that_are_no_good(text: str) -> None:
    with pytest.raises(ValueError, match=r"absolute path|takes no argument"):
        parse_delivery(text)


async def test_discard_and_close(make_message: MessageMaker) -> None:
    delivery = Discard()
    await delivery.deliver(make_message())
    await delivery.aclose()
    await delivery.aclose()


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
