"""Questions, verdicts and fallbacks as values."""

import pickle

import pytest

from triosmtp.policy import PHASES, Phase
from triosmtp.policy_service.question import (
    Excerpt,
    Fallback,
    Question,
    Verdict,
    decider_source,
    fallback_reply,
    fallback_verdict,
    is_decider_source,
)


def question(phase: Phase) -> Question:
    return Question(
        id="s-1", session="s", phase=phase, peer="192.0.2.1:5", listener=":25", local="192.0.2.2:25",
        variables={"tls": "on"}, message_variables={}, arguments={}, password="correct horse",
    )  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("fallback", "at_connect", "later"), [("tempfail", 421, 451), ("reject", 554, 550)])
def test_a_fallback_refuses_with_the_code_of_its_phase(
    phase: Phase, fallback: Fallback, at_connect: int, later: int
) -> None:
    verdict = fallback_verdict("fraud", question(phase), fallback, "timed out after 5 s")
    assert (verdict.decision, verdict.code) == ("reject", at_connect if phase == "connect" else later)
    assert (verdict.code, verdict.enhanced, verdict.text) == fallback_reply(phase, fallback)
    assert verdict.enhanced[0] == str(verdict.code)[0]
    assert (verdict.source, verdict.failure) == ("websocket:fraud", "timed out after 5 s")


def test_the_fallback_continue_refuses_nothing_and_keeps_its_cause() -> None:
    assert fallback_reply("connect", "continue") is None
    verdict = fallback_verdict("fraud", question("rcptto"), "continue", "no decider")
    assert verdict == Verdict(source="websocket:fraud", failure="no decider")
    assert verdict.decision == "continue"


def test_sources_of_deciders_are_recognised() -> None:
    assert decider_source("fraud", "bar") == "websocket:fraud/bar"
    assert is_decider_source(decider_source("fraud"))
    assert not is_decider_source("python:websocket:x")


def test_a_question_is_pickled_and_shows_no_password() -> None:
    asked = question("auth")
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert "correct horse" not in repr(asked)
    assert "body of mail" not in repr(Excerpt(b"body of mail", 12))
    assert (asked.info.id, asked.info.peer, asked.info.local) == ("s", "192.0.2.1:5", "192.0.2.2:25")
