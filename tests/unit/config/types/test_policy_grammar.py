import re
from pathlib import Path

from triosmtp.config.types.policy_grammar import POLICY_FORMS, SOCKET_SCHEMES, forms_of

PAGE = (Path(__file__).parents[4] / "docs" / "filters.md").read_text()


def test_the_grammar_on_the_page_is_that_of_errors() -> None:
    section = PAGE.partition("\n## The grammar of Policy\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert [re.findall(r"`([^`]+)`", row) for row in rows] == [list(forms) for forms in POLICY_FORMS.values()]


def test_each_form_begins_with_its_word() -> None:
    assert set(SOCKET_SCHEMES) <= set(POLICY_FORMS)
    for word, forms in POLICY_FORMS.items():
        assert {re.split(r"[:\s]", form)[0] for form in forms} == {word}


def test_forms_are_a_list_for_a_sentence() -> None:
    assert forms_of(("policyd",)) == "policyd:unix:/path or policyd:inet:host:port"
    assert forms_of(("filter",)) == "filter:name"
    assert forms_of(("python", "policyd")).startswith("python:package.module:Name, policyd:unix:/path or policyd:inet")
