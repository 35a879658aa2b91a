"""The addresses of targets: their grammar, and what errors must not tell."""

from pathlib import Path

import pytest

from triosmtp.config.types.target_address import SCHEMES, TargetAddress, is_delivery_name, parse_target


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("maildir:/var/mail", TargetAddress("maildir", "/var/mail")),
        ("MAILDIR:in", TargetAddress("maildir", "/etc/triosmtp/in")),
        ("discard:", TargetAddress("discard")),
        ("python:mail.store:Inbox.take", TargetAddress("python", "mail.store:Inbox.take")),
    ],
)
def test_an_address_is_read_and_written_in_its_full_form(text: str, address: TargetAddress) -> None:
    found = parse_target(text, Path("/etc/triosmtp"))
    assert found == address
    assert parse_target(str(found)) == found
    assert found.is_local


@pytest.mark.parametrize(
    "text", ["discard", "discard:x", "maildir:", "python:store", "python:a-b:c", "sieve:x", "", ":"]
)
def test_other_texts_are_errors_that_say_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_target(text)
    assert any(scheme.example in str(caught.value) for scheme in SCHEMES.values())


@pytest.mark.parametrize(
    ("text", "valid"),
    [("exchange", True), ("a.b_c-D9", True), ("x" * 65, False), ("", False), ("a:b", False), ("é", False)],
)
def test_the_name_of_a_delivery(text: str, valid: bool) -> None:
    assert is_delivery_name(text) is valid
