"""Queries in the words of Momentum's console: their scope, their option, and the lines of the reply."""

import pytest

from triosmtp.config import OPTIONS, evaluate, find_query, get, options_of_connections, parse_config, show
from triosmtp.errors import QueryError

CONFIG = parse_config(
    """Idle_Time = 5
ESMTP_Listener "in" {
  Max_Message_Size = 7
  Listen ":25" { Peer "10.0.0.0/8" { Idle_Time = 3 } }
  Listen ":26" { Idle_Time = 4 }
}
Control_Listener { Listen "/run/control" { } }
""",
    "e.conf",
)


def reply(words: str) -> list[str]:
    query = find_query(CONFIG, words.split())
    query.check()
    return evaluate(query.settings(CONFIG), query.options)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("Idle_Time", "Idle_Time = 5  # e.conf:1"),
        ("esmtp_listener in listen :25 idle_time", "Idle_Time = 5  # e.conf:1"),
        ("ESMTP_Listener Listen :26 Idle_Time", "Idle_Time = 4  # e.conf:5"),
        ("ESMTP_Listener in Listen *:26 Max_Message_Size", "Max_Message_Size = 7  # e.conf:3"),
        ("ESMTP_Listener in Listen :25 Peer 10.1.2.3 Idle_Time", "Idle_Time = 3  # e.conf:4"),
        ("ESMTP_Listener in Listen :25 Open_Relay", "Open_Relay = false  # default"),
    ],
)
def test_a_query_falls_back_as_a_connection_does(words: str, line: str) -> None:
    assert reply(words) == [line]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("Idle_Tme", "unknown scope or option Idle_Tme; did you mean Idle_Time?"),
        ("Idle_Time ESMTP_Listener", "Idle_Time is an option: it stands last"),
        ("ESMTP_Listener in Listen", 'expected an instance: Listen ":25"'),
        ("Listen :25", "Listen does not stand in global"),
        ("ESMTP_Listener in Listen :27", 'there is no Listen ":27" in ESMTP_Listener "in"; there is: ":25", ":26"'),
        ("ESMTP_Listener in Peer x", "expected an address or a CIDR block"),
    ],
)
def test_a_query_that_has_no_meaning_names_the_word(words: str, text: str) -> None:
    with pytest.raises(QueryError) as caught:
        find_query(CONFIG, words.split())
    assert text in str(caught.value)


def test_an_option_that_has_no_value_in_the_scope_is_an_error() -> None:
    with pytest.raises(QueryError, match="Idle_Time is not valid in a Control_Listener; it is in: global"):
        find_query(CONFIG, ["Control_Listener", "Idle_Time"]).check()


def test_get_reads_one_scope_without_fallback() -> None:
    listen = find_query(CONFIG, ["ESMTP_Listener", "in", "Listen", ":25"]).own_block
    assert get(listen, OPTIONS["idle_time"]) is None
    peer = find_query(CONFIG, ["ESMTP_Listener", "in", "Listen", ":25", "Peer", "10.0.0.0/8"]).own_block
    assert get(peer, OPTIONS["idle_time"]) == "Idle_Time = 3  # e.conf:4"
    with pytest.raises(QueryError, match="there is no Peer"):
        _ = find_query(CONFIG, ["ESMTP_Listener", "in", "Listen", ":25", "Peer", "10.0.0.1"]).own_block


def test_show_writes_the_scope_and_with_recurse_its_scopes_too() -> None:
    assert list(show(CONFIG.root)) == ["Idle_Time = 5  # e.conf:1"]
    lines = list(show(CONFIG.root, recurse=True))
    assert lines[:5] == [
        "Idle_Time = 5  # e.conf:1",
        'ESMTP_Listener "in" {',
        "  Max_Message_Size = 7  # e.conf:3",
        '  Listen ":25" {',
        '    Peer "10.0.0.0/8" {',
    ]


def test_options_of_connections_are_those_of_smtp_scopes() -> None:
    names = {option.name for option in options_of_connections()}
    assert {"Idle_Time", "TLS_Certificate"} <= names
    assert names.isdisjoint({"Path", "User", "Token_File"})
