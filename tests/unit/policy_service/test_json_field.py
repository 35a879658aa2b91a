"""Fields of JSON objects: each value of another type is an error that names the field."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from triosmtp.policy_service.json_field import is_encodable, read_boolean, read_choice, read_strings, read_text
from triosmtp.policy_service.json_rpc import MAX_ENTRIES, ErrorCode, ProtocolError

WORDS = ("enforce", "shadow")
Reader = Callable[[dict[str, Any], str], Any]
text: Reader = partial(read_text, default=None)
choice: Reader = partial(read_choice, words=WORDS, default=None)
strings: Reader = partial(read_strings, default=())


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (text, None),
        (text, 1),
        (text, ["x"]),
        (text, {}),
        (read_boolean, None),
        (read_boolean, 1),
        (read_boolean, "true"),
        *((choice, value) for value in (None, "Enforce", "", 1, ["enforce"])),
        *((strings, value) for value in (None, "x", {"x": 1}, [1], [None], [""], ["x" * (MAX_ENTRIES + 1)])),
        (strings, ["x"] * (MAX_ENTRIES + 1)),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_field(read: Reader, value: object) -> None:
    with pytest.raises(ProtocolError, match=r"^mode: expected ") as caught:
        read({"mode": value}, "mode")
    assert caught.value.code == ErrorCode.INVALID_PARAMS


def test_values_are_returned_and_defaults_apply() -> None:
    assert text({"a": "x"}, "a") == "x"
    assert read_text({}, "a", "default") == "default"
    assert read_boolean({"a": True}, "a") is True
    assert read_boolean({}, "a") is False
    assert read_choice({}, "a", WORDS, "shadow") == "shadow"
    assert choice({"a": "enforce"}, "a") == "enforce"
    longest = ["x" * MAX_ENTRIES] * MAX_ENTRIES
    assert strings({"a": longest}, "a") == tuple(longest)
    assert read_strings({}, "a", None) is None


@pytest.mark.parametrize("read", [text, choice])
def test_a_mandatory_field_that_is_missing_is_an_error(read: Reader) -> None:
    with pytest.raises(ProtocolError, match=r"^a: expected"):
        read({}, "a")


@pytest.mark.parametrize(
    ("value", "encodable"),
    [("", True), ("ascii", True), ("ü\ud7ff\ue000\U0001f600", True), ("\ud800", False), ("ü\udfff", False)],
)
def test_lone_surrogates_cannot_be_encoded(value: str, encodable: bool) -> None:
    assert is_encodable(value) is encodable
    if encodable:
        value.encode()
    else:
        with pytest.raises(UnicodeEncodeError):
            value.encode()
