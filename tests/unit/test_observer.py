"""Observers: each event reaches those that want its type, in their order; an error of one stops nothing."""

from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import pytest

from triosmtp.event import (
    ConfigurationReloadFailed,
    Connected,
    Disconnected,
    ServerEvent,
    SessionInfo,
)
from triosmtp.observer import EVENTS, Observers, Subscription
from triosmtp.testing import open_memory_server
from triosmtp.variables import TLSInfo

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


CONF = """
Relay_Domains = ( "example.com" )
ESMTP_Listener { Listen ":25" { Peer "192.0.2.1" { SMTP_Extensions = ( "XREMOTEIP" ) } } }
"""


VALUES: dict[object, Any] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    str | None: None,
    datetime: datetime(2026, 1, 1, tzinfo=UTC),
    SessionInfo: SessionInfo(id="s", peer="192.0.2.1:1024", local="192.0.2.2:25", listener=":25"),
    TLSInfo: TLSInfo(protocol="TLSv1.3", cipher="c", cipher_algbits=1, cipher_usebits=1),
}


KINDS = [*get_args(ServerEvent), SessionInfo]


def make(kind: type[Any]) -> Any:
    return kind(**{each.name: VALUES.get(each.type, ()) for each in attrs.fields(attrs.resolve_types(kind))})


def note(kind: str) -> Any:
    return lambda happened: HEARD.append((kind, type(happened)))


HEARD: list[tuple[str, type]] = []


def test_an_observer_is_called_with_the_events_that_it_wants_alone() -> None:
    HEARD.clear()
    some = Subscription(note("some"), {Connected})
    none = Subscription(note("none"))
    observers = Observers([note("all"), some, none])
    observers.emit(make(Connected))
    observers.emit(make(Disconnected))
    assert [("all", Connected), ("some", Connected), ("all", Disconnected)] == HEARD
    HEARD.clear()
    some.change({Disconnected})
    none.change(EVENTS)
    observers.add(note("late"))
    observers.emit(make(Connected))
    observers.emit(make(Disconnected))
    assert [
        ("all", Connected), ("none", Connected), ("late", Connected),
        ("all", Disconnected), ("some", Disconnected), ("none", Disconnected), ("late", Disconnected),
    ] == HEARD  # fmt: skip


def test_an_observer_that_fails_is_logged_and_the_next_one_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: ServerEvent) -> None:
        raise RuntimeError("broken")

    HEARD.clear()
    Observers([Subscription(fail, EVENTS), fail, note("next")]).emit(make(Connected))
    assert [("next", Connected)] == HEARD
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@pytest.mark.parametrize("kind", KINDS[:-1])
async def test_every_observer_of_a_server_is_called_with_every_event(kind: type[Any]) -> None:
    async with open_memory_server(CONF) as server:
        server.service.emit(make(kind))
    assert server.events == [make(kind)]
