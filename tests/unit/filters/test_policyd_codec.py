"""Requests and answers of the policy protocol, without input or output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.filters.policyd_codec import MAX_ANSWER, MAX_VALUE, AnswerError, AnswerReader, encode_request

NAMES = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.text(max_size=2000)), min_size=1, max_size=10))
def test_no_value_adds_an_attribute_or_ends_the_request(attributes: list[tuple[str, str]]) -> None:
    encoded = encode_request(attributes)
    assert encoded.endswith(b"\n\n")
    lines = encoded[:-2].split(b"\n")
    assert [line.partition(b"=")[0].decode() for line in lines] == [name for name, _ in attributes]
    assert not any(octet < 32 or octet == 127 for line in lines for octet in line)
    for line, (name, _) in zip(lines, attributes, strict=True):
        assert len(line.decode()) <= len(name) + 1 + MAX_VALUE


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1))
def test_an_answer_is_read_however_it_is_divided(text: str) -> None:
    for end in ("\n", "\r\n"):
        data = f"other=x{end}action={text}{end}{end}".encode()
        if len(data) > MAX_ANSWER:
            continue
        for size in (1, 2, 7, len(data)):
            reader = AnswerReader()
            found = [reader.receive_data(data[i : i + size]) for i in range(0, len(data), size)]
            assert found[:-1] == [None] * (len(found) - 1)
            assert found[-1] == text


@given(st.binary(max_size=200))
def test_any_octets_are_an_action_without_control_characters_or_an_error(data: bytes) -> None:
    reader = AnswerReader()
    try:
        action = reader.receive_data(data)
    except AnswerError:
        return
    assert action is None or not any(character < " " and character != "\t" for character in action)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"action=OK\n\naction=OK\n\n", "behind the end"),
        (b"action=OK\n\nx", "behind the end"),
        (b"\n", "without an action"),
        (b"\r\n", "without an action"),
        (b"other=x\n\n", "without an action"),
        (b"hello\n\n", "not name=value"),
        (b"action=REJECT a\rb\n\n", "control character"),
        (b"action=REJECT a\0b\n\n", "control character"),
        (b"action=REJECT \xff\n\n", "not UTF-8"),
        (b"action=REJECT " + b"x" * MAX_ANSWER, "more than 4096"),
    ],
)
def test_an_answer_that_cannot_be_applied_says_why(answer: bytes, reason: str) -> None:
    with pytest.raises(AnswerError, match=reason):
        AnswerReader().receive_data(answer)
