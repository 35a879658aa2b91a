"""The latest refusals: grouped, bounded, and with texts that are cut."""

import pytest

from triosmtp.status.refusals import Refusals, envelope_summary, host_of, shortened


def test_a_repeated_refusal_is_one_entry_with_a_count() -> None:
    refusals = Refusals(10)
    refusals.add(1.0, "a", {"text": "first"})
    refusals.add(2.0, "b", {"text": "other"})
    refusals.add(3.0, "a", {"text": "second"})
    assert refusals.latest() == [
        {"time": 3.0, "first": 1.0, "count": 2, "text": "second"},
        {"time": 2.0, "first": 2.0, "count": 1, "text": "other"},
    ]


def test_a_new_kind_replaces_the_one_refused_longest_ago() -> None:
    refusals = Refusals(2)
    for moment, kind in enumerate("abac"):
        refusals.add(float(moment), kind, {"kind": kind})
    assert [each["kind"] for each in refusals.latest()] == ["c", "a"]


def test_texts_of_peers_are_cut() -> None:
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 200 + "…"
    shown = envelope_summary("s" * 300, tuple("abcde"))
    assert len(shown["sender"]) == 201
    assert shown["recipients"] == ["<a>", "<b>", "<c>"]
    assert shown["recipients_more"] == 2
    assert envelope_summary(None, ()) == {"sender": None, "recipients": [], "recipients_more": 0}


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.1:25", "192.0.2.1"),
        ("[2001:db8::1]:25", "[2001:db8::1]"),
        ("a Unix socket", "a Unix socket"),
        ("", ""),
    ],
)
def test_the_host_of_a_peer_has_no_port(peer: str, host: str) -> None:
    assert host_of(peer) == host
