"""The answers of an untrusted decider."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_schema import SCHEMA

from triosmtp.policy_service.json_rpc import ProtocolError
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.verdict_reader import read_verdict


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{name}"})


def question(phase: Any = "mailfrom") -> Question:
    return Question(
        id="s-1", session="s", phase=phase, peer="192.0.2.7:1", listener=":25", variables={}, message_variables={},
        arguments={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "phase", "expected"),
    [
        ({"decision": "continue"}, "mailfrom", (0, "", "")),
        ({"decision": "reject"}, "mailfrom", (550, "5.7.1", "Refused by policy")),
        ({"decision": "reject"}, "connect", (554, "5.7.1", "Refused by policy")),
        ({"decision": "reject", "code": 450}, "mailfrom", (450, "4.7.1", "Refused by policy")),
        ({"decision": "reject", "enhanced": "4.2.1"}, "rcptto", (450, "4.2.1", "Refused by policy")),
        ({"decision": "tempfail"}, "mailfrom", (451, "4.7.1", "Not now, please try again later")),
        ({"decision": "tempfail"}, "connect", (421, "4.7.1", "Not now, please try again later")),
        ({"decision": "disconnect", "text": "bye"}, "ehlo", (421, "4.7.0", "bye")),
        ({"decision": "reject", "code": 554, "enhanced": "5.1.1", "text": "no"}, "data", (554, "5.1.1", "no")),
    ],
)
def test_a_decision_has_its_reply(result: dict[str, Any], phase: str, expected: tuple[int, str, str]) -> None:
    assert validator("verdict").is_valid(result)
    verdict = read_verdict(result, question(phase), "websocket:g/n")
    assert (verdict.code, verdict.enhanced, verdict.text) == expected
    assert verdict.source == "websocket:g/n"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ([], "result: expected an object"),
        ({}, "decision: expected one of"),
        ({"decision": "accept"}, "decision: expected one of"),
        ({"decision": "reject", "code": 250}, "code: 250 does not reject"),
        ({"decision": "reject", "code": "550"}, "code: expected an integer"),
        ({"decision": "reject", "code": True}, "code: expected an integer"),
        ({"decision": "reject", "code": 10**400}, "does not reject"),
        ({"decision": "tempfail", "code": 550}, "code: 550 does not tempfail"),
        ({"decision": "reject", "code": 550, "enhanced": "4.7.1"}, "not of the class"),
        ({"decision": "reject", "enhanced": "5.7"}, "enhanced: expected"),
        ({"decision": "reject", "text": "a\r\n250 ok"}, "text: expected one line"),
        ({"decision": "reject", "text": "x" * 401}, "text: expected one line"),
        ({"decision": "reject", "text": "\udce9"}, "text: expected one line"),
        ({"decision": "continue", "set": []}, "set: expected an object"),
        ({"decision": "continue", "set": {"connection": {"tls": "on"}}}, "written by the TLS engine"),
        ({"decision": "continue", "set": {"connection": {"tls_client_verified": None}}}, "written by the TLS engine"),
        ({"decision": "continue", "set": {"message": {"a": 1}}}, "set.message: a: expected a string"),
        ({"decision": "continue", "set": {"message": {"": "x"}}}, "set.message: expected names"),
        ({"decision": "continue", "set": {"message": {"a": "\ud800"}}}, "set.message: a"),
        ({"decision": "continue", "add_headers": [["X"]]}, "add_headers: expected pairs"),
        ({"decision": "continue", "add_headers": [["X:", "1"]]}, "not the name of a header field"),
        ({"decision": "continue", "add_headers": [["X", "a\r\nBcc: b"]]}, "add_headers: X"),
        ({"decision": "continue", "add_headers": [["X", "1"]] * 33}, "at most 32"),
    ],
)
def test_a_decision_that_does_not_fit_names_the_field(result: Any, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        read_verdict(result, question(), "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["5.7.1", "4.3.0", "reject"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
DECISIONS = st.sampled_from(["continue", "done", "reject", "tempfail", "discard", "disconnect"])
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
NAMES = st.sampled_from(["a", "tls", "tls_x", "ccert_subject", "score", "", "x y"])
CHANGES = st.dictionaries(NAMES, st.none() | ASCII | st.integers(), max_size=3)
ANSWERS = st.fixed_dictionaries(
    {"decision": DECISIONS | JSON},
    optional={
        "code": st.integers(390, 610) | st.none() | JSON,
        "enhanced": st.from_regex(r"[2456]\.[0-9]{1,4}\.[0-9]{1,3}", fullmatch=True) | st.none() | JSON,
        "text": ASCII | JSON,
        "set": st.fixed_dictionaries({}, optional={"connection": CHANGES, "message": CHANGES}) | JSON,
        "add_headers": st.lists(st.tuples(st.sampled_from(["X", "X-Y", "X:"]), ASCII).map(list), max_size=3) | JSON,
    },
)


@given(result=ANSWERS | JSON)
@settings(max_examples=1500)
def test_whatever_is_answered_is_a_verdict_or_an_error_and_the_schema_agrees(result: Any) -> None:
    try:
        verdict = read_verdict(result, question(), "x")
    except ProtocolError:
        accepted = False
    else:
        accepted = True
        assert (verdict.code == 0) == (verdict.decision in {"continue", "done", "discard"})
        assert verdict.code == 0 or verdict.enhanced[0] == str(verdict.code)[0]
        assert "\r" not in verdict.text
        assert "\n" not in verdict.text
    if accepted:
        assert validator("verdict").is_valid(result), result
    elif validator("verdict").is_valid(result):
        # What one field alone does not show: that code and enhanced are of one class, and characters beyond ASCII
        # that are not printable in a header's value.
        assert isinstance(result, dict)
        classes = {str(result.get("code"))[0], str(result.get("enhanced"))[0]}
        unprintable = any(not value.isprintable() for _, value in result.get("add_headers", []))
        changes = [v for part in result.get("set", {}).values() for v in (part or {}).values() if v is not None]
        surrogates = any(not value.isascii() for value in changes)
        assert len(classes) == 2 or unprintable or surrogates or float(result.get("code") or 0) != result.get("code")
