"""Replies to lines that no row accepts, and the part of a line that may be logged."""

import pytest

from triosmtp.smtp.command import COMMANDS
from triosmtp.smtp.fixed_replies import begins_like_bdat, loggable_line, unknown_command


@pytest.mark.parametrize(
    ("verb", "code"), [(b"RUBBISH", 500), (b"", 500), (b"EXPN", 502), (b"ETRN", 502), (b"SEND", 502), (b"XCLIENT", 500)]
)
def test_an_unknown_command(verb: bytes, code: int) -> None:
    assert unknown_command(None, verb).reply.code == code


def test_trailing_white_space() -> None:
    error = unknown_command(COMMANDS[b"NOOP"], b"NOOP")
    assert (error.reply.code, error.reason) == (501, "trailing white space")


@pytest.mark.parametrize(
    ("line", "secret", "shown"),
    [
        (b"AUTH PLAIN AGEAYg==", False, b"AUTH"),
        (b"auth plain AGEAYg==", False, b"AUTH"),
        (b"AGEAYg==", True, b"AUTH"),
        (b"AUTHENTICATE", False, b"AUTHENTICATE"),
        (b"MAIL FROM:<a@b>", False, b"MAIL FROM:<a@b>"),
    ],
)
def test_a_password_is_not_logged(line: bytes, secret: bool, shown: bytes) -> None:
    assert loggable_line(line, secret=secret) == shown


@pytest.mark.parametrize(
    ("line", "like"),
    [
        (b"BDAT 1", True),
        (b"bdat", True),
        (b"BDAT\0", True),
        (b"BDATA 1", False),
        (b"BDAT1", False),
        (b" BDAT 1", False),
    ],
)
def test_a_line_like_bdat(line: bytes, like: bool) -> None:
    assert bool(begins_like_bdat(line)) is like
