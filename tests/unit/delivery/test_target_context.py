"""The context of a target."""

from typing import Any, cast

from triosmtp.delivery import EventSink, TargetContext, TargetHealth


def test_events_go_to_the_observer_of_the_server_that_runs() -> None:
    seen: list[Any] = []
    sink = EventSink()
    context = TargetContext("mx.example.org", TargetHealth("hop"), sink)
    event = cast("Any", object())
    context.emit(event)  # without a server, as in `triosmtp check`
    sink.observer = seen.append
    context.emit(event)
    assert seen == [event]
