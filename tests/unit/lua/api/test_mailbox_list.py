"""Address lists."""

import pytest

from triosmtp.lua.api.mailbox_list import MAX_LIST, component, read_mailboxes


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a@example", ["a@example"]),
        ("Ann <a@example>, b@example", ["a@example", "b@example"]),
        ('"B, Bob" <b@example>', ["b@example"]),
        ("a@example (a comment, (nested) ), b@example", ["a@example", "b@example"]),
        ("friends: a@example, B <b@example>;, c@example", ["a@example", "b@example", "c@example"]),
        ("undisclosed:;", []),
        ('"a b"@example', ["a b@example"]),
        ("<@route.example:a@example>", ["a@example"]),
        ("postmaster", ["postmaster"]),
        ("", []),
        (",,;", []),
        ("a @ example", ["a@example"]),
        ("<>", []),
        ("a\\,b@example", ["a,b@example"]),
        ('"unterminated <a@example>', ["a@example"]),
    ],
)
def test_addresses_are_found(text: str, addresses: list[str]) -> None:
    assert [each.address for each in read_mailboxes(text)] == addresses


def test_an_address_has_components() -> None:
    (mailbox,) = read_mailboxes('"Ann \\"A\\"" <ann+lists+x@Example.COM>')
    assert [component(mailbox, each) for each in ("all", "localpart", "user", "detail", "domain", "display")] == [
        "ann+lists+x@Example.COM", "ann+lists+x", "ann", "lists+x", "Example.COM", 'Ann "A"',
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'name' is none of all,"):
        component(mailbox, "name")


def test_a_list_is_bounded() -> None:
    assert len(read_mailboxes("a," * 100_000)) == 10_000
    assert len(read_mailboxes(" " * MAX_LIST + "a@example")) == 0
