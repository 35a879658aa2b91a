"""The types of options of delivery."""

import pytest
from config_text import read_option

from triosmtp.config import OPTIONS
from triosmtp.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"maildir:/var/mail"', ("maildir:/var/mail",)),
        ('"discard:"', ("discard:",)),
        ('( "python:mail.store:Inbox.take" "maildir:in" )', ("python:mail.store:Inbox.take", "maildir:in")),
    ],
)
def test_targets_are_read_and_written(text: str, value: tuple[str, ...]) -> None:
    assert read_option("Deliver_To", text) == value
    assert read_option("Deliver_To", OPTIONS["deliver_to"].write(value)) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("discard:x", 'expected discard:, found "discard:x"'),
        ("maildir:", 'expected maildir:/path, found "maildir:"'),
        ("python:a-b:c", "expected python:package.module:function"),
        ("pythn:a:c", "did you mean python:?"),
        ("[ a = b ]", "found a dictionary"),
        ('"a b"', "or the name of a Delivery"),
    ],
)
def test_bad_targets(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_option("Deliver_To", text)
    (problem,) = caught.value.problems
    assert told in problem.message
    assert problem.message.startswith("Deliver_To: ")
