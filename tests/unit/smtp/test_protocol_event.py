"""The events: immutable values, which show no secret."""

from typing import get_args

import pytest
from attrs import fields
from attrs.exceptions import FrozenInstanceError

from triosmtp import smtp
from triosmtp.smtp import Address, Auth, AuthResponse, Event, MailFrom


@pytest.mark.parametrize("event", get_args(Event))
def test_every_event_is_public_and_frozen(event: type) -> None:
    assert event.__name__ in smtp.__all__
    value: object = object.__new__(event)
    for name in [each.name for each in fields(event)] or ["other"]:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


def test_events_of_two_types_differ() -> None:
    events: list[Event] = [smtp.Noop(), smtp.Reset(), smtp.BodyEnd(1), smtp.ChunkEnd(1)]
    assert [[each == other for other in events] for each in events] == [
        [index == other for other in range(len(events))] for index in range(len(events))
    ]
    assert MailFrom(Address("a", "b"), {}, "<a@b>") == MailFrom(Address("a", "b"), {}, "<a@b>")


def test_credentials_are_not_in_the_text_of_an_event() -> None:
    assert "secret" not in repr(Auth("PLAIN", b"\0user\0secret")) + repr(AuthResponse(b"secret"))
