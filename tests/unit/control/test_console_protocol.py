"""Requests and responses of the console are one line each; everything else is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.control.console_protocol import ConsoleRequest, ConsoleResponse, split_words

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(st.lists(st.text()))
def test_a_request_survives_its_line(words: list[str]) -> None:
    line = ConsoleRequest(tuple(words)).encode()
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert ConsoleRequest.decode(line) == ConsoleRequest(tuple(words))


@given(st.text(), JSON, st.integers(0, 255))
def test_a_response_survives_its_line(text: str, data: object, status: int) -> None:
    response = ConsoleResponse(text, data, status)
    line = response.encode()
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert ConsoleResponse.decode(line) == response


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}", b"[]", b"1", b'"words"', b'{"words": 1}', b'{"words": "help"}', b'{"words": [1]}', b"\xff",
     b"[" * 100_000],
    ids=repr,
)  # fmt: skip
def test_a_line_that_is_no_request_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        ConsoleRequest.decode(line)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"text": "", "data": None}, {"text": "", "data": None, "status": "x"}, "text"], ids=repr
)
def test_a_line_that_is_no_response_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError):
        ConsoleResponse.decode(json.dumps(value).encode())
    with pytest.raises(ValueError):
        ConsoleResponse.decode(b"220 not triosmtp\r\n")


def test_words_are_split_as_by_a_shell() -> None:
    assert split_words("config get \"Listen\" 'a b' c\\ d") == ["config", "get", "Listen", "a b", "c d"]
    with pytest.raises(ValueError, match="No closing quotation"):
        split_words('config "get')
