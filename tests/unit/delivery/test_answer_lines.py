"""The answers of targets in the log: bounded, printable, and by recipient only if they differ."""

from triosmtp.delivery import answer_lines


def test_one_answer_of_a_target_is_one_line_without_recipients() -> None:
    said = "250 2.0.0 Ok: queued as 4F2K"
    assert answer_lines([("hop", "a@x", said), ("hop", "b@x", said), ("app", "a@x", "202")]) == (
        f"hop: {said}", "app: 202",
    )  # fmt: skip


def test_different_answers_name_their_recipients() -> None:
    assert answer_lines([("lmtp", "a@x", "250 Saved"), ("lmtp", "b@x", "452 Full"), ("lmtp", "c@x", "452 Full")]) == (
        "lmtp: a@x: 250 Saved", "lmtp: b@x, c@x: 452 Full",
    )  # fmt: skip


def test_lines_and_texts_are_bounded_and_printable() -> None:
    lines = answer_lines([("lmtp", f"{number}@x", f"250 {number}") for number in range(1000)])
    assert lines == (*(f"lmtp: {number}@x: 250 {number}" for number in range(20)), "and 980 more")
    many = answer_lines([("lmtp", "a@x", "452"), *(("lmtp", f"{number}@x", "250") for number in range(1000))])
    assert many == ("lmtp: a@x: 452", "lmtp: 0@x, 1@x, 2@x, 3@x, 4@x and 995 more: 250")
    assert answer_lines([("hop", "", "250 a\r\nb\x00\u2028" + "x" * 1000)]) == ("hop: 250 a??b??" + "x" * 190,)
    assert answer_lines([]) == ()


def test_what_is_no_text_is_left_out() -> None:
    assert answer_lines([("own", "", True), ("own", "", b"250"), ("own", "", "")]) == ()
