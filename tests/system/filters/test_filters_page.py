"""The page about filters has what the code has."""

import re
from pathlib import Path

from triosmtp.config import OPTIONS
from triosmtp.filters import rspamd_policy
from triosmtp.filters.milter_changes import MAX_RECIPIENT_CHANGES
from triosmtp.filters.milter_codec import MAX_FRAME
from triosmtp.filters.milter_content import MAX_FIELDS
from triosmtp.filters.milter_macros import MACROS
from triosmtp.filters.milter_policy import END_OF_MESSAGE_TIMES, WHOLE_MESSAGE_TIMES
from triosmtp.filters.milter_session import MAX_ANSWERS, USUAL_MACROS
from triosmtp.filters.policyd_action import WORDS
from triosmtp.filters.policyd_attributes import OWN_ATTRIBUTES, POSTFIX_ATTRIBUTES, PROTOCOL_STATES
from triosmtp.filters.policyd_client import MAX_CONNECTIONS
from triosmtp.filters.policyd_codec import MAX_ANSWER, MAX_VALUE
from triosmtp.filters.policyd_policy import MAX_PREPENDED
from triosmtp.message.header_edits import MAX_EDITS

PAGE = (Path(__file__).parents[3] / "docs" / "filters.md").read_text()


def rows(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_every_attribute_is_on_the_page_in_its_order() -> None:
    assert rows("Attributes") == [*POSTFIX_ATTRIBUTES, *OWN_ATTRIBUTES, "triosmtp_listener"]


def test_every_action_is_on_the_page() -> None:
    assert rows("Actions") == list(WORDS)


def test_every_phase_and_option_is_on_the_page() -> None:
    states = dict(re.findall(r"^\| `(\w+)` \| `([\w-]+)`", PAGE, re.MULTILINE))
    assert {phase: states[phase] for phase in PROTOCOL_STATES} == PROTOCOL_STATES
    for option in OPTIONS.values():
        assert "Filter" not in option.scopes or f"`{option.name}`" in PAGE


def test_every_action_of_rspamd_is_on_the_page() -> None:
    assert set(rows("rspamd")) == {*rspamd_policy._REFUSALS, *rspamd_policy._ACCEPTED, "discard"}
    for number in (rspamd_policy.MAX_ANSWER // 1024, rspamd_policy.MAX_CONNECTIONS):
        assert re.search(rf"\b{number}\b", PAGE.partition("\n## rspamd\n")[2].partition("\n## ")[0])


def test_every_macro_is_on_the_page_in_its_order() -> None:
    names = [name.strip("{}") for name in rows("Macros")]
    usual = dict.fromkeys(name.strip("{}") for stage in USUAL_MACROS for name in stage)
    assert names == list(usual)
    assert set(names) == set(MACROS)


def test_the_bounds_are_on_the_page() -> None:
    bounds = (
        MAX_FRAME,
        MAX_ANSWERS,
        MAX_EDITS,
        MAX_FIELDS,
        MAX_RECIPIENT_CHANGES,
        END_OF_MESSAGE_TIMES,
        WHOLE_MESSAGE_TIMES,
    )
    for number in (MAX_ANSWER, MAX_VALUE, MAX_CONNECTIONS, MAX_PREPENDED, *bounds):
        assert re.search(rf"\b{number}\b", PAGE)
