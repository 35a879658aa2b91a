"""The actions of access(5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp import Reject
from triosmtp.filters.policyd_action import WORDS, Action, parse_action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("DUNNO", Action("DUNNO")),
        ("dunno and more", Action("DUNNO")),
        ("", Action("DUNNO")),
        ("OK", Action("OK")),
        ("PERMIT", Action("PERMIT")),
        ("REJECT", Action("REJECT", "Access denied", 554, "5.7.1")),
        ("REJECT Go away", Action("REJECT", "Go away", 554, "5.7.1")),
        ("REJECT 5.1.8 No such sender", Action("REJECT", "No such sender", 554, "5.1.8")),
        ("REJECT 4.1.8 Later", Action("REJECT", "Later", 554, "5.1.8")),
        ("defer", Action("DEFER", "Access denied", 450, "4.7.1")),
        ("DEFER_IF_PERMIT", Action("DEFER_IF_PERMIT", "Service unavailable", 450, "4.7.1")),
        ("DEFER_IF_PERMIT 4.2.0 Greylisted", Action("DEFER_IF_PERMIT", "Greylisted", 450, "4.2.0")),
        ("DEFER_IF_REJECT x", Action("DEFER_IF_REJECT", "x", 450, "4.7.1")),
        ("550 5.1.1 Unknown", Action("REJECT", "Unknown", 550, "5.1.1")),
        ("421 Bye", Action("DEFER", "Bye", 421, "4.7.1")),
        ("550", Action("REJECT", "Access denied", 550, "5.7.1")),
        ("PREPEND X-A: b  c", Action("PREPEND", "X-A: b  c")),
        ("redirect you@example.com", Action("REDIRECT", "you@example.com")),
        ("FILTER smtp:host", Action("UNKNOWN", "FILTER smtp:host")),
        ("250 fine", Action("UNKNOWN", "250 fine")),
        ("570 fine", Action("UNKNOWN", "570 fine")),
        ("12345", Action("UNKNOWN", "12345")),
    ],
)
def test_an_action_is_parsed_as_postfix_does(text: str, action: Action) -> None:
    assert parse_action(text) == action


@given(st.one_of(st.text(), st.builds("{} {}".format, st.sampled_from([*WORDS, "550", "499"]), st.text())))
def test_every_text_is_an_action_and_every_code_is_that_of_a_refusal(text: str) -> None:
    action = parse_action(text)
    assert action.word in {*WORDS, "UNKNOWN"}
    if action.code:
        Reject(action.code, action.enhanced, action.text)
