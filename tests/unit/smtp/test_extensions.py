"""The reply to EHLO as a client reads it."""

from triosmtp.smtp.extensions import NO_EXTENSIONS, Extensions
from triosmtp.smtp.reply_parser import ReceivedReply


def of(*lines: str) -> Extensions:
    return Extensions.of(ReceivedReply(250, ("mx.example.org SIZE AUTH", *lines)))


def test_keywords() -> None:
    found = of("PIPELINING", "size 1000", "8BITMIME", "X-odd! 1", "", "   ", "AUTH PLAIN", "AUTH=LOGIN plain")
    assert set(found.keywords) == {"PIPELINING", "SIZE", "8BITMIME", "AUTH"}, "the first line is no keyword"
    assert "PIPELINING" in found
    assert "STARTTLS" not in found
    assert found.parameters("AUTH") == {"PLAIN", "LOGIN"}
    assert found.parameters("STARTTLS") == frozenset()
    assert found.max_size == 1000


def test_a_size_that_says_nothing() -> None:
    for line in ("SIZE", "SIZE 0", "SIZE x", "SIZE \u0663", "SIZE " + "9" * 21, "SIZE -5", "PIPELINING"):
        assert of(line).max_size == 0, line


def test_none() -> None:
    assert not NO_EXTENSIONS.keywords
    assert "SIZE" not in NO_EXTENSIONS
