"""Events that came from NATS: only what nodes publish is shown."""

import json
from typing import Any

from triosmtp.jetstream.event_subscriber import read_event


def test_events_that_no_node_publishes_are_not_shown() -> None:
    good: dict[str, Any] = {
        "method": "session.opened",
        "params": {"time": "2026-02-03T04:05:06.000Z", "variables": {"a": "b"}},
    }
    assert read_event(json.dumps(good).encode()) == ("session.opened", good["params"])
    wrong: Any
    for wrong in (
        [],
        {"method": "session.opened"},
        {**good, "method": "a\x1b[2J.b"},
        {**good, "method": 1},
        {**good, "params": {"time": "now\n"}},
        {**good, "params": {}},
        {**good, "params": {**good["params"], "a\nb": 1}},
        {**good, "params": {**good["params"], "variables": {"a\x1b": 1}}},
        {**good, "params": {**good["params"], "variables": 1}},
    ):
        assert read_event(json.dumps(wrong).encode()) is None
    assert read_event(b"[" * 100_000) is None
