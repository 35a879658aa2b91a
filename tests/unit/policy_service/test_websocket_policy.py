"""The header fields in a question."""

import pytest

from triosmtp.policy_service.websocket_policy import header_fields


def test_only_line_ends_end_a_field() -> None:
    block = (
        b"Subject: hi\x0bFrom: a\r\nA: b\xc2\x85To: c\r\nB : d\x1cX: e\xe2\x80\xa8Y: f\r\n\tfolded\r\nno field\r\nC:\n"
    )
    fields = header_fields(block)["headers"]
    assert [name for name, _ in fields] == ["Subject", "A", "B", "C"]
    assert fields[2][1].endswith("f\tfolded")


@pytest.mark.parametrize(("line", "shown"), [(b"a: b\r\n", 1000), (b":\n", 1000), (b"\n", 0), (b" x\n", 0)])
def test_the_number_of_header_fields_is_limited(line: bytes, shown: int) -> None:
    answer = header_fields(line * 30_000)
    assert len(answer["headers"]) == shown
    assert answer["headers_truncated"]
    assert "headers_truncated" not in header_fields(b"a: b\r\n" * 1000)
