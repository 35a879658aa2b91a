from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.message import header_edits
from triosmtp.message.header_edits import (
    MAX_EDITED,
    MAX_EDITS,
    MAX_FIELDS,
    MAX_HEADER,
    EditError,
    HeaderEdits,
    make_field,
    parse_header,
    read_header,
)
from triosmtp.message.spool import Body, Spool, SpoolError, _memory

MESSAGE = b"Received: by a\r\n\twith folds\r\nSubject: first\r\nx-spam: no\r\nsubject:second\r\n\r\nBody\r\n.\r\n"
KIB = 1024


async def edited(message: bytes, change: Callable[[HeaderEdits], object]) -> bytes:
    edits = HeaderEdits()
    change(edits)
    made = await edits.apply(Body(message))
    with made.open() as reader:
        found = reader.read()
    assert made.size == len(found)
    made.close()
    return found


def replaced(old: bytes, new: bytes) -> bytes:
    assert MESSAGE.count(old) == 1
    return MESSAGE.replace(old, new)


CHANGES: list[tuple[Callable[[HeaderEdits], object], bytes]] = [
    (lambda e: e.prepend("X", "1"), b"X: 1\r\n" + MESSAGE),
    (lambda e: e.append("X", "1"), replaced(b"\r\n\r\n", b"\r\nX: 1\r\n\r\n")),
    (lambda e: e.insert(1, "X", "1"), replaced(b"Subject:", b"X: 1\r\nSubject:")),
    (lambda e: e.insert(99, "X", "1"), replaced(b"\r\n\r\n", b"\r\nX: 1\r\n\r\n")),
    (lambda e: e.change("SUBJECT", 2, "new"), replaced(b"subject:second", b"SUBJECT: new")),
    (lambda e: e.change("Subject", -2, "new"), replaced(b"Subject: first", b"Subject: new")),
    (lambda e: e.change("Subject", 3, "new"), replaced(b"\r\n\r\n", b"\r\nSubject: new\r\n\r\n")),
    (lambda e: e.change("Subject", -3, "new"), MESSAGE),
    (lambda e: e.delete("received", 1), MESSAGE[len(b"Received: by a\r\n\twith folds\r\n") :]),
    (lambda e: e.delete("Subject", -1), replaced(b"subject:second\r\n", b"")),
    (lambda e: e.delete("X-None"), MESSAGE),
    (lambda e: e.delete("X-Spam", 2), MESSAGE),
    (lambda e: e.replace_body(Body(b"new\r\n")), replaced(b"Body\r\n.\r\n", b"new\r\n")),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
async def test_each_change_leaves_all_other_octets_as_they_are(
    change: Callable[[HeaderEdits], object], expected: bytes
) -> None:
    assert await edited(MESSAGE, change) == expected


async def test_delete_without_a_number_deletes_all_of_the_name() -> None:
    found = await edited(MESSAGE, lambda e: e.delete("SUBJECT"))
    assert found == replaced(b"Subject: first\r\n", b"").replace(b"subject:second\r\n", b"")


async def test_a_change_holds_for_the_header_that_the_changes_before_it_left() -> None:
    def change(edits: HeaderEdits) -> None:
        edits.prepend("Subject", "zero")
        edits.change("Subject", 2, "one")  # which was the first one before
        edits.delete("Subject", 1)
        edits.insert(2, "Y", "here")

    assert await edited(MESSAGE, change) == replaced(b"Subject: first\r\n", b"Subject: one\r\nY: here\r\n")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"X: 1\r\n"),
        (b"\r\nBody", b"X: 1\r\n\r\nBody"),
        (b"Body only\r\n", b"X: 1\r\n\r\nBody only\r\n"),
        (b" begins with a space\r\n", b"X: 1\r\n\r\n begins with a space\r\n"),
        (b"A: b\r\nno field\r\nC: d\r\n\r\nBody", b"X: 1\r\nA: b\r\n\r\nno field\r\nC: d\r\n\r\nBody"),
        (b"A: b", b"X: 1\r\nA: b\r\n"),
        (b"A: b\n\nBody", b"X: 1\r\nA: b\n\nBody"),
        (b"From a@b Mon\r\nA: b\r\n\r\nBody", b"From a@b Mon\r\nX: 1\r\nA: b\r\n\r\nBody"),
        (b"From a@b Mon\r\n\r\nBody", b"X: 1\r\n\r\nFrom a@b Mon\r\n\r\nBody"),
        (b"A : b\r\n c\r\n\r\nBody", b"X: 1\r\nA : b\r\n c\r\n\r\nBody"),
    ],
)
async def test_the_header_ends_where_postfix_ends_it(message: bytes, expected: bytes) -> None:
    assert await edited(message, lambda e: e.prepend("X", "1")) == expected


async def test_a_message_without_fields_gets_no_field_from_its_body() -> None:
    found = await edited(b"Body: is a field\r\nand this is not\r\n", lambda e: e.delete("Body"))
    assert found == b"\r\nand this is not\r\n"


VALUES = [
    (b"plain", b"X: plain\r\n"),
    (b" spaced", b"X: spaced\r\n"),
    (b"", b"X: \r\n"),
    (b"a\n\tb", b"X: a\r\n\tb\r\n"),
    (b"a\r\n b\r c", b"X: a\r\n b\r\n c\r\n"),
    (b"a\r\n \r\n\t\r\n b", b"X: a\r\n b\r\n"),
    (b"a\r\n\n b", b"X: a\r\n b\r\n"),
    (b"a\r\n", b"X: a\r\n"),
    (b"a\0\x0b\x7f\x1fb", b"X: a????b\r\n"),
    (b"\r\n folded at once", b"X: \r\n folded at once\r\n"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_a_value_stays_within_its_field(value: bytes, expected: bytes) -> None:
    assert make_field("X", value) == expected


def test_without_the_space_a_value_follows_the_colon() -> None:
    assert make_field("X", b"1", space=False) == b"X:1\r\n"
    assert make_field("X", "é") == b"X: \xc3\xa9\r\n"


@pytest.mark.parametrize("value", [b"a\r\nBcc: b", b"a\nb", b"a\rb", b"a\r\n\r\nbody", b"\nX", b"a\n b\r\n.\r\nc"])
def test_a_line_end_that_no_space_follows_is_an_error(value: bytes) -> None:
    with pytest.raises(EditError, match="line end"):
        make_field("X", value)


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "é", "A" * 77, b"A\0", b"\xff"])
def test_what_is_no_name_of_a_field_is_an_error(name: str | bytes) -> None:
    with pytest.raises(EditError, match="name of a header field"):
        make_field(name, "1")


@given(st.binary(max_size=40).map(lambda b: b.replace(b"A", b"\r").replace(b"B", b"\n").replace(b"C", b" ")))
def test_no_value_makes_a_second_field_or_ends_the_header(value: bytes) -> None:
    try:
        made = make_field("X", value)
    except EditError:
        return
    header = parse_header(made + b"\r\nBody", complete=True)
    assert len(header.fields) == 1
    assert header.body_start == len(made) + 2
    assert b"\r" not in made.replace(b"\r\n", b"")
    assert all(line.strip() for line in made.split(b"\r\n")[:-1])


@pytest.mark.parametrize("value", [b"x" * 3000, b"word " * 900, b"a\r\n " + b"y" * 1500, "é".encode() * 1200])
def test_a_line_that_is_too_long_is_folded(value: bytes) -> None:
    made = make_field("X", value)
    lines = made.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert (
        made.replace(b"\r\n ", b"").replace(b" ", b"")
        == b"X:" + value.replace(b"\r\n ", b"").replace(b" ", b"") + b"\r\n"
    )
    assert all(line.decode("utf-8") is not None for line in lines)


def test_untouched_fields_are_those_that_python_reads() -> None:
    header = parse_header(MESSAGE, complete=True)
    parsed = message_from_bytes(MESSAGE, policy=policy.compat32)
    assert [each.name.decode() for each in header.fields] == parsed.keys()
    assert [each.value.strip().decode() for each in header.fields] == parsed.values()


async def test_too_many_changes_are_an_error() -> None:
    edits = HeaderEdits()
    for _ in range(MAX_EDITS):
        edits.delete("X")
    with pytest.raises(EditError, match="changes"):
        edits.prepend("X", "1")
    edits = HeaderEdits()
    edits.prepend("X", "\r\n ".join(["y" * 900] * 280))
    with pytest.raises(EditError, match=str(MAX_EDITED)):
        edits.prepend("X", "\r\n ".join(["y" * 900] * 280))
    with pytest.raises(EditError, match="from 1"):
        edits.change("X", 0, "1")
    with pytest.raises(EditError, match="-1"):
        edits.insert(-1, "X", "1")


async def test_equal_changes_are_equal_and_none_is_false() -> None:
    one, other, body = HeaderEdits(), HeaderEdits(), Body(b"new")
    assert not one
    assert one == other
    one.prepend("X", "1")
    assert one
    assert one != other
    other.prepend("X", "1")
    assert one == other
    one.replace_body(body)
    assert one != other
    other.extend(one)
    assert other.new_body is body
    assert await edited(MESSAGE, lambda e: e.extend(other)) == b"X: 1\r\nX: 1\r\n" + replaced(b"Body\r\n.\r\n", b"new")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"a:\n" * (MAX_FIELDS + 1) + b"\n", "fields"),
        (b"a: " + b"b" * MAX_HEADER + b"\r\n\r\n", "longer"),
        (
            (b"a: " + b"b" * 996 + b"\n") * (MAX_HEADER // 1000) + b"c" * (MAX_HEADER % 1000 - 1) + b":\r\n\r\n",
            "longer",
        ),
    ],
)
async def test_a_header_that_is_too_large_is_an_error(message: bytes, text: str) -> None:
    with pytest.raises(EditError, match=text):
        await edited(message, lambda e: e.prepend("X", "1"))
    with pytest.raises(EditError, match=text):
        await read_header(Body(message))


async def test_the_end_of_the_header_may_be_the_end_of_what_is_read() -> None:
    fields = (b"a: " + b"b" * 996 + b"\n") * (MAX_HEADER // 1000)
    message = fields + b"c:" + b"d" * (MAX_HEADER - len(fields) - 4) + b"\r\n" + b"\r\nBody"
    assert message.index(b"\r\n\r\n") == MAX_HEADER - 2
    with pytest.raises(EditError, match="longer"):
        await read_header(Body(message))
    shorter = message.replace(b"d\r\n", b"\r\n", 1)  # its empty line begins within
    with pytest.raises(EditError, match="longer"):
        await read_header(Body(shorter))
    shorter = message.replace(b"dd\r\n", b"\r\n", 1)
    assert (await read_header(Body(shorter))).body_start == MAX_HEADER


async def spooled(folder: Path, data: bytes) -> Body:
    spool = Spool(folder)
    spool.add(data)
    return await spool.finish()


async def test_a_message_in_a_file_becomes_another_file(tmp_path: Path) -> None:
    data = b"x" * 1000 * KIB
    body, new = await spooled(tmp_path, MESSAGE + data), await spooled(tmp_path, b"new" + data)
    edits = HeaderEdits()
    edits.delete("Subject")
    made = await edits.apply(body, tmp_path)
    assert not made.in_memory
    with made.open() as reader:
        assert reader.read() == b"Received: by a\r\n\twith folds\r\nx-spam: no\r\n\r\nBody\r\n.\r\n" + data
    edits.replace_body(new)
    short = Body(b"A: b\r\n\r\nold")  # in memory, and its new body is not
    large = await edits.apply(short, tmp_path)
    assert not large.in_memory
    with large.open() as reader:
        assert reader.read() == b"A: b\r\n\r\nnew" + data
    with body.open() as reader:
        assert reader.read() == MESSAGE + data  # the old one stays
    for each in (body, new, made, large):
        each.close()


async def test_a_disk_that_is_full_is_an_error_and_the_old_body_stays(tmp_path: Path) -> None:
    body = await spooled(tmp_path, MESSAGE + b"x" * 1000 * KIB)
    edits = HeaderEdits()
    edits.prepend("X", "1")
    with pytest.raises(SpoolError, match="Spool_Min_Free"):
        await edits.apply(body, tmp_path, min_free=1 << 60)
    with pytest.raises(SpoolError):
        await edits.apply(body, Path("/proc/none"))
    assert await body.part(0, 8) == MESSAGE[:8]
    body.close()


async def test_the_memory_of_an_edited_message_is_counted() -> None:
    before = _memory.held
    edits = HeaderEdits()
    edits.prepend("X", "1")
    for size in (10, 100 * KIB):
        made = await edits.apply(Body(MESSAGE + b"x" * size))
        assert _memory.held == before + made.size
        made.close()
    assert _memory.held == before


async def test_a_short_message_in_memory_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(header_edits, "derive", refuse)
    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    assert await edited(MESSAGE, lambda e: e.prepend("X", "1")) == b"X: 1\r\n" + MESSAGE
    assert len((await read_header(Body(MESSAGE))).fields) == 4
