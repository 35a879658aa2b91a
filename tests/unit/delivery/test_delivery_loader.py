"""The specifications of Deliver_To."""

from pathlib import Path

import pytest

from triosmtp.delivery import Discard, Maildir, parse_delivery


def test_specifications() -> None:
    maildir = parse_delivery("maildir:/var/mail/in")
    assert isinstance(maildir, Maildir)
    assert maildir.path == Path("/var/mail/in")
    assert isinstance(parse_delivery("DISCARD:"), Discard)
    for text in ("maildir:/var/mail/in", "discard:"):
        assert str(parse_delivery(text)) == text


@pytest.mark.parametrize("text", ["", "mbox:/x", "discard", "/var/mail"])
def test_unknown_schemes_name_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="maildir:/path, discard:"):
        parse_delivery(text)


@pytest.mark.parametrize("text", ["maildir:", "maildir:mail", "maildir:/a\x00b", "discard:/x"])
def test_arguments_that_are_no_good(text: str) -> None:
    with pytest.raises(ValueError, match=r"absolute path|takes no argument"):
        parse_delivery(text)
