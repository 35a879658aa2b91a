"""The changes of a milter: collected, judged, and applied all at once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve

from triosmtp.filters.milter_changes import MAX_RECIPIENT_CHANGES, ContentRules, EnvelopeRules, MilterChanges
from triosmtp.filters.milter_codec import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    MilterError,
    NewBody,
    Quarantine,
)
from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.header_edits import MAX_EDITS, HeaderField
from triosmtp.message.spool import Body, SpoolError, _memory
from triosmtp.policy import Session
from triosmtp.smtp import Address

CONTENT = ContentRules(spool_directory=None, spool_min_free=0, max_body=100)
NO_FIELDS: tuple[HeaderField, ...] = ()


async def nothing(_session: Session, _address: Address) -> str:
    return ""


RULES = EnvelopeRules(
    judge_recipient=nothing,
    judge_sender=lambda _session, sender: "not this one" if sender.local_part == "no" else "",
    refusal_of=nothing,
    is_local=bool,
    max_recipients=3,
)


def message() -> Message:
    envelope = Envelope(Address("a", "b.example"), {}, [Recipient(Address("c", "d.example"), {})])
    return Message(id="1-1", envelope=envelope, body=Body(b"A: b\r\n\r\nbody"), received=datetime.now(UTC))


def session() -> Session:
    return Session(id="1", listener=":25", peer="unix", peer_address=None, local="unix")


def octets(message: Message) -> bytes:
    with message.body.open() as reader:
        return reader.read()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"a\r\nb: c", b"a\r\n\tb: c"),
        (b"a\nb", b"a\r\n\tb"),
        (b"a\n\tb", b"a\r\n\tb"),
        (b"a\n\nBody", b"a\r\n\tBody"),
        (b"a\n", b"a"),
    ],
)
async def test_a_line_end_in_a_value_continues_the_field(value: bytes, found: bytes) -> None:
    for change in (AddHeader(b"X", value), InsertHeader(0, b"X", value), ChangeHeader(1, b"A", value)):
        changes, changed = MilterChanges(CONTENT, False), message()
        await changes.add(change)
        assert await changes.apply(session(), changed, NO_FIELDS, RULES) == ""
        name = b"A" if isinstance(change, ChangeHeader) else b"X"
        assert name + b": " + found + b"\r\n" in octets(changed)
        assert octets(changed).endswith(b"\r\n\r\nbody")
        changed.body.close()


async def test_a_value_has_the_space_that_was_negotiated() -> None:
    changes, changed = MilterChanges(CONTENT, True), message()
    await changes.add(AddHeader(b"X", b"1"))
    await changes.add(AddHeader(b"Y", b" 2"))
    assert await changes.apply(session(), changed, NO_FIELDS, RULES) == ""
    assert octets(changed) == b"A: b\r\nX:1\r\nY: 2\r\n\r\nbody"
    changed.body.close()


@pytest.mark.parametrize("name", [b"", b"A B", b"X\r\nY", b"X:"])
async def test_a_name_that_is_none_is_an_error(name: bytes) -> None:
    with pytest.raises(MilterError):
        await MilterChanges(CONTENT, False).add(AddHeader(name, b"1"))


async def test_numbers_and_sizes_are_bounded() -> None:
    changes = MilterChanges(CONTENT, False)
    for _ in range(MAX_EDITS):
        await changes.add(AddHeader(b"X", b"1"))
    with pytest.raises(MilterError, match=str(MAX_EDITS)):
        await changes.add(AddHeader(b"X", b"1"))
    for _ in range(MAX_RECIPIENT_CHANGES):
        await changes.add(DeleteRecipient(b"<a@b>"))
    with pytest.raises(MilterError, match=str(MAX_RECIPIENT_CHANGES)):
        await changes.add(AddRecipient(b"<a@b>", b"", extended=False))
    await changes.add(NewBody(b"x" * 100))
    with pytest.raises(MilterError, match="100 octets"):
        await changes.add(NewBody(b"x"))
    changes.close()


async def test_a_new_body_that_is_not_used_leaves_nothing() -> None:
    before = _memory.held
    changes = MilterChanges(CONTENT, False)
    await changes.add(NewBody(b"x" * 50))
    assert changes
    changes.close()
    changed = message()
    changes = MilterChanges(CONTENT, False)
    assert not changes
    await changes.add(NewBody(b"x" * 50))
    assert await changes.apply(session(), changed, NO_FIELDS, RULES) == ""
    changes.close()
    assert octets(changed) == b"A: b\r\n\r\n" + b"x" * 50
    changed.body.close()
    assert _memory.held == before


async def test_a_new_body_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rules = evolve(CONTENT, spool_directory=tmp_path / "file", max_body=1 << 30)
    changes = MilterChanges(rules, False)
    with pytest.raises(SpoolError):
        await changes.add(NewBody(b"x" * (1 << 20)))
    changes.close()


async def test_fields_that_policies_added_are_in_the_header_once() -> None:
    changes, changed, found = MilterChanges(CONTENT, False), message(), session()
    found.message_headers.append(("P", "1"))
    changed.trace = b"P: 0\r\n"
    extra = (HeaderField(b"P", b"P: 1\r\n"), HeaderField(b"Q", b"Q: 2\r\n"))
    await changes.add(InsertHeader(1, b"X", b"3"))
    assert await changes.apply(found, changed, extra, RULES) == ""
    assert octets(changed) == b"P: 1\r\nX: 3\r\nQ: 2\r\nA: b\r\n\r\nbody"
    assert changed.has_session_headers
    assert found.message_headers == []
    assert changed.trace == b""
    changed.body.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([ChangeSender(b"<no@example.org>", b"")], "not this one"),
        ([ChangeSender(b"no brackets", b"")], "sender"),
        ([ChangeSender(b"<a@example.org>", b"X=Y")], "parameter X"),
        (
            [AddRecipient(b"<%d@d.example>" % number, b"", extended=False) for number in range(3)],
            "more than 3 recipients",
        ),
        ([AddRecipient(b"<a@d.example>", b"NOTIFY=X", extended=True)], "NOTIFY"),
        ([AddRecipient("<é@d.example>".encode(), b"", extended=False)], "SMTPUTF8"),
        ([AddRecipient(b"\xff", b"", extended=False)], "not an address"),
    ],
)
async def test_the_reason_is_said_and_nothing_is_changed(
    changes: list[AddRecipient | ChangeSender], reason: str
) -> None:
    collected, changed = MilterChanges(CONTENT, False), message()
    await collected.add(AddHeader(b"X", b"1"))
    for change in changes:
        await collected.add(change)
    assert reason in await collected.apply(session(), changed, NO_FIELDS, RULES)
    assert octets(changed) == b"A: b\r\n\r\nbody"
    assert (str(changed.envelope.sender), list(map(str, changed.envelope.recipients))) == (
        "a@b.example",
        ["c@d.example"],
    )


async def test_the_null_sender_and_parameters_are_accepted() -> None:
    collected, changed = MilterChanges(CONTENT, False), message()
    await collected.add(ChangeSender(b"<>", b"RET=HDRS"))
    await collected.add(AddRecipient(b"<e@d.example>", b"NOTIFY=NEVER", extended=True))
    await collected.add(Quarantine("why"))
    assert collected.quarantine == "why"
    assert await collected.apply(session(), changed, NO_FIELDS, RULES) == ""
    assert not changed.envelope.sender
    assert changed.envelope.ret == "HDRS"
    assert changed.envelope.recipients[1].notify == {"NEVER"}
    assert octets(changed) == b"A: b\r\n\r\nbody"


async def test_numbers_of_fields_are_counted_as_postfix_3_7_counts_them() -> None:
    changed, found = message(), session()
    changed.body = Body(b"X: 1\r\nX: 2\r\nX: 3\r\nX: 4\r\nY: a\r\nZ: z\r\n\r\nhello\r\n")
    changes = MilterChanges(CONTENT, False)
    for change in (
        ChangeHeader(1, b"X", b""), ChangeHeader(2, b"X", b""), InsertHeader(0, b"I0", b"0"),
        InsertHeader(1, b"I1", b"1"), InsertHeader(3, b"I3", b"3"), InsertHeader(2, b"I2", b"2"),
        InsertHeader(99, b"I99", b"9"), AddHeader(b"Add", b"a\nb: c"), ChangeHeader(9, b"New", b"n"),
        ChangeHeader(1, b"None", b""), ChangeHeader(1, b"Y", b"y"),
    ):  # fmt: skip
        await changes.add(change)
    assert await changes.apply(found, changed, (HeaderField(b"P", b"P: x\r\n"),), RULES) == ""
    assert octets(changed) == (
        b"I0: 0\r\nI1: 1\r\nI2: 2\r\nP: x\r\nI3: 3\r\nX: 2\r\nX: 4\r\nY: y\r\nZ: z\r\n"
        b"I99: 9\r\nAdd: a\r\n\tb: c\r\nNew: n\r\n\r\nhello\r\n"
    )
    changed.body.close()


async def test_recipients_that_are_named_twice_go_at_once_and_one_that_comes_back_is_the_last() -> None:
    found, changes = message(), MilterChanges(CONTENT, False)
    first, second = found.envelope.recipients[0], Recipient(Address("e", "d.example"), {})
    found.envelope.recipients += [second, Recipient(Address("C", "D.example"), {})]
    for path in (b"<c@d.example>", b"<c@d.example>", b"<none@d.example>"):
        await changes.add(DeleteRecipient(path))
    for _ in range(2):
        await changes.add(AddRecipient(b"<c@d.example>", b"NOTIFY=NEVER", extended=True))
    assert await changes.apply(session(), found, NO_FIELDS, RULES) == ""
    assert found.envelope.recipients == [second, Recipient(first.address, {"NOTIFY": "NEVER"})]


async def test_each_of_many_recipients_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = 0

    def counted(address: Address) -> tuple[str, str]:
        nonlocal keys
        keys += 1
        return address.local_part, address.domain

    monkeypatch.setattr("triosmtp.filters.milter_changes._key", counted)
    found, changes = message(), MilterChanges(CONTENT, False)
    found.envelope.recipients[:] = [Recipient(Address(f"u{number}", "d.example"), {}) for number in range(1000)]
    for number in range(MAX_RECIPIENT_CHANGES // 2):
        await changes.add(DeleteRecipient(b"<u%d@d.example>" % number))
        await changes.add(AddRecipient(b"<v%d@d.example>" % number, b"", extended=False))
    rules = evolve(RULES, max_recipients=1000)
    assert await changes.apply(session(), found, NO_FIELDS, rules) == ""
    assert len(found.envelope.recipients) == 1000
    assert keys == 1000 + MAX_RECIPIENT_CHANGES
