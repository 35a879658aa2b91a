"""The settings of a connection: which values are accepted, and what is derived from them."""

from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from triosmtp.smtp import ConnectionSettings
from triosmtp.smtp.connection_settings import MAX_HEADER

SETTINGS = ConnectionSettings(hostname="mx.example.org")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": ""},
        {"max_mails": -1},
        {"max_recipients": -1},
        {"max_hold": 0},
        {"max_message_size": -1},
        {"max_discarded_size": -1},
        {"max_command_errors": -1},
        {"max_junk_commands": -1},
        {"max_body_line": -1},
        {"max_line": 511},
        {"starttls_injection": "maybe"},
        {"lone_lf_in_headers": "maybe"},
        {"lone_lf_in_body": "maybe"},
        {"long_lines": "maybe"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_values_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        evolve(SETTINGS, **wrong)


def test_a_connection_cannot_change_them() -> None:
    with pytest.raises(FrozenInstanceError):
        SETTINGS.hostname = "other.example.org"  # type: ignore[misc] # it is frozen


@pytest.mark.parametrize(
    ("changes", "strict"),
    [
        ({}, True),
        ({"lone_lf_in_headers": "fix"}, False),
        ({"lone_lf_in_body": "ignore"}, False),
        ({"lone_lf_in_headers": "fix", "lone_lf_in_body": "fix"}, False),
        ({"long_lines": "fix"}, True),  # there is no limit
        ({"long_lines": "fix", "max_body_line": 998}, False),
        ({"long_lines": "none", "max_body_line": 998}, True),
    ],
)
def test_strict_body(changes: dict[str, Any], strict: bool) -> None:
    assert evolve(SETTINGS, **changes).strict_body is strict


@pytest.mark.parametrize(("size", "short"), [(0, MAX_HEADER), (1, 1), (MAX_HEADER, MAX_HEADER), (1 << 30, MAX_HEADER)])
def test_max_short_body(size: int, short: int) -> None:
    assert evolve(SETTINGS, max_message_size=size).max_short_body == short


def test_rendered_replies_belong_to_one_value() -> None:
    other = evolve(SETTINGS)
    other.rendered["key"] = b"250 Ok\r\n"
    assert other == SETTINGS
    assert "key" not in SETTINGS.rendered
    assert "rendered" not in repr(other)
