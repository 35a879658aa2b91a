"""The answer of rspamd, as rspamd 3.4 writes it, and what another server may write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.filters.rspamd_answer import AddedHeader, RspamdAnswer, RspamdAnswerError, parse_answer


def answer(**fields: Any) -> RspamdAnswer:
    return parse_answer(json.dumps({"action": "no action", **fields}).encode())


def test_an_answer_of_rspamd_is_read() -> None:
    found = parse_answer(
        b'{"is_skipped":false,"score":20.0,"required_score":15.0,"action":"reject","symbols":{"WORD":{"name":"WORD",'
        b'"score":20.0}},"messages":{"smtp_message":"Gtube pattern"},"message-id":"undef","time_real":0.1,"milter":'
        b'{"remove_headers":{"X-Spam":0,"X-Last":-1,"X-Two":[1,2]},"add_headers":{"X-A":"a","X-B":{"value":"b","order":'
        b'1},"X-C":["c",{"value":"d","order":-1}]},"change_from":"b@c.d","add_rcpt":"x@y.z","del_rcpt":["q@y.z"]}}'
    )
    assert found == RspamdAnswer(
        action="reject",
        message="Gtube pattern",
        score="20.00/15.00",
        removed=(("X-Spam", 0), ("X-Last", -1), ("X-Two", 1), ("X-Two", 2)),
        added=(AddedHeader("X-A", "a"), AddedHeader("X-B", "b", 1), AddedHeader("X-C", "c"), AddedHeader("X-C", "d")),
        sender="b@c.d",
        added_recipients=("x@y.z",),
        deleted_recipients=("q@y.z",),
    )


def test_lists_of_objects_as_lua_makes_them_are_objects() -> None:
    found = answer(milter={"remove_headers": [{"X-Spam": 0}, {"X-B": 1}], "add_headers": []})
    assert (found.removed, found.added) == ((("X-Spam", 0), ("X-B", 1)), ())


def test_signatures_stand_on_top() -> None:
    assert answer(**{"dkim-signature": "v=1"}).added == (AddedHeader("DKIM-Signature", "v=1", 1),)
    assert [each.value for each in answer(**{"dkim-signature": ["a", "b"]}).added] == ["a", "b"]


def test_what_is_missing_is_not_wanted() -> None:
    assert answer() == RspamdAnswer(action="no action", score="?/?")
    assert answer(action="Soft Reject", subject="x", messages={}).subject == "x"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", "[" * 100_000, '"reject"', "{}", '{"action":1}', '{"action":null}',
        '{"error":"invalid command","error_domain":"protocol-error"}',
        '{"action":"x","messages":[]}', '{"action":"x","messages":{"smtp_message":5}}', '{"action":"x","milter":"y"}',
        '{"action":"x","milter":{"add_headers":{"X":5}}}', '{"action":"x","milter":{"add_headers":{"X":{"order":1}}}}',
        '{"action":"x","milter":{"add_headers":{"X":{"value":"y","order":"1"}}}}',
        '{"action":"x","milter":{"add_headers":{"X":{"value":"y","order":99999999999999999999}}}}',
        '{"action":"a\\r\\nb"}', json.dumps({"action": "x" * 101}),
        '{"action":"x","milter":{"remove_headers":{"X":"0"}}}', '{"action":"x","milter":{"remove_headers":{"X":1e9}}}',
        '{"action":"x","milter":{"remove_headers":{"X":99999999999999999999}}}',
        '{"action":"x","milter":{"add_rcpt":[5]}}', '{"action":"x","milter":{"change_from":[]}}',
        '{"action":"x","milter":{"del_rcpt":' + json.dumps(["x"] * 1001) + "}}",
        '{"action":"x","subject":5}', '{"action":"x","dkim-signature":{}}', '{"action":"\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(RspamdAnswerError):
        parse_answer(text.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=10), each, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["action", "messages", "milter", "subject", "score", "required_score", "dkim-signature"])


@given(st.dictionaries(NAMES, JSON))
def test_anything_is_an_answer_or_an_error(found: dict[str, Any]) -> None:
    try:
        parse_answer(json.dumps(found).encode())
    except RspamdAnswerError:
        return


@given(st.binary(max_size=200))
def test_octets_are_an_answer_or_an_error(octets: bytes) -> None:
    with pytest.raises(RspamdAnswerError):
        parse_answer(octets)
