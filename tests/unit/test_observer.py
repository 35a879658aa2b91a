"""Observers: each event reaches those that want its type, in their order; an error of one stops nothing."""

import pytest

from triosmtp.event import ConfigurationReloadFailed, Connected, ServerEvent, SessionInfo
from triosmtp.observer import EVENTS, Observers, Subscription

CONNECTED = Connected(session=SessionInfo(id="1-a", peer="192.0.2.1:25", local="192.0.2.2:25", listener=":25"))
FAILED = ConfigurationReloadFailed(path="e.conf", reason="bad", problems=())


def test_an_observer_without_a_subscription_gets_every_event_in_order() -> None:
    seen: list[tuple[str, ServerEvent]] = []
    observers = Observers([lambda event: seen.append(("first", event))])
    observers.add(lambda event: seen.append(("second", event)))
    observers.emit(CONNECTED)
    assert seen == [("first", CONNECTED), ("second", CONNECTED)]
    assert {Connected, ConfigurationReloadFailed} <= EVENTS


def test_a_subscription_gets_the_types_that_it_names_and_may_change_them() -> None:
    seen: list[ServerEvent] = []
    subscription = Subscription(seen.append, [Connected])
    observers = Observers([subscription])
    observers.emit(CONNECTED)
    observers.emit(FAILED)
    assert seen == [CONNECTED]
    subscription.change([ConfigurationReloadFailed])
    observers.emit(CONNECTED)
    observers.emit(FAILED)
    assert seen == [CONNECTED, FAILED]


def test_a_subscription_that_is_called_directly_ignores_other_types() -> None:
    seen: list[ServerEvent] = []
    subscription = Subscription(seen.append, [Connected])
    subscription(FAILED)
    subscription(CONNECTED)
    assert seen == [CONNECTED]


def test_an_error_of_an_observer_is_logged_and_the_next_one_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: ServerEvent) -> None:
        raise RuntimeError("broken")

    seen: list[ServerEvent] = []
    Observers([fail, seen.append]).emit(CONNECTED)
    assert seen == [CONNECTED]
    assert "an observer failed at 'Connected'" in caplog.text
