"""The types of options of policy."""

import pytest
from config_text import option_error, read_option


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Policy", '( "python:a.b:C" "python:a:B.c" )', ("python:a.b:C", "python:a:B.c")),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object) -> None:
    assert read_option(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("Policy", "python:a", "expected python:package.module:Name"),
        ("Policy", "'python:a-b:C'", "expected python:package.module:Name"),
        ("Policy", "lua:a:b", "expected python:package.module:Name"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    assert told in option_error(name, text)
