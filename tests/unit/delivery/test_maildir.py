import mailbox
import os
import re
import stat
from collections.abc import Callable
from errno import EIO
from pathlib import Path
from random import Random

import pytest
import trio

from triosmtp.delivery import DeliveryError, Maildir
from triosmtp.message import Message
from triosmtp.message.spool import Body, Spool
from triosmtp.smtp.mail_address import Address

MessageMaker = Callable[..., Message]
HELLO = (
    b"Return-Path: <me@example.org>\n"
    b"Delivered-To: joe@example.com\n"
    b"Received: from a by b;\n Tue, 03 Feb 2026 04:05:06 +0000\n"
    b"Subject: hello\n\ntext\n"
)


def files(folder: Path) -> list[Path]:
    return sorted(p for name in ("tmp", "new", "cur") for p in (folder / name).glob("*"))


def delivered(folder: Path) -> bytes:
    """Return the one message of a Maildir."""
    [path] = files(folder)
    assert path.parent.name == "new"
    return path.read_bytes()


def descriptor_path(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


async def refused(maildir: Maildir, message: Message) -> None:
    with pytest.raises(DeliveryError) as caught:
        await maildir.deliver(message)
    assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")


async def test_a_message_on_disk(tmp_path: Path, make_message: MessageMaker) -> None:
    folder = tmp_path / "mail" / "in"
    await Maildir(folder).deliver(make_message())
    assert delivered(folder) == HELLO
    [path] = files(folder)
    assert re.fullmatch(rf"\d+\.M\d{{6}}P\d+Q1R[0-9a-f]{{8}}\.[^:/]+,S={len(HELLO)}", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for made in (folder.parent, folder, folder / "tmp", folder / "new", folder / "cur"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


async def test_python_reads_it(tmp_path: Path, make_message: MessageMaker) -> None:
    maildir = Maildir(tmp_path)
    for number in range(3):
        await maildir.deliver(make_message(b"Subject: %d\r\n\r\ntext\r\n.\r\n" % number))
    read = list(mailbox.Maildir(tmp_path, create=False))
    assert sorted(m["Subject"] for m in read) == ["0", "1", "2"]
    assert {m["Return-Path"] for m in read} == {"<me@example.org>"}
    assert {m.get_payload() for m in read} == {"text\n.\n"}


async def test_every_recipient_is_named_and_the_null_path(tmp_path: Path, make_message: MessageMaker) -> None:
    recipients = (Address("joe", "example.com"), Address("jörg", "bücher.example"), Address("a b", "example.com"))
    await Maildir(tmp_path).deliver(make_message(recipients=recipients, sender=Address("", ""), trace=b""))
    assert delivered(tmp_path).startswith(
        b"Return-Path: <>\n"
        b"Delivered-To: joe@example.com\n"
        b"Delivered-To: j\xc3\xb6rg@b\xc3\xbccher.example\n"
        b'Delivered-To: "a b"@example.com\n'
        b"Subject: hello\n"
    )


async def test_a_long_address_stays_whole(tmp_path: Path, make_message: MessageMaker) -> None:
    address = Address("jane " + "x" * 1900, "example.org")
    await Maildir(tmp_path).deliver(make_message(recipients=(address,), sender=address))
    wire = f'"jane {"x" * 1900}"@example.org'.encode()
    assert delivered(tmp_path).startswith(b"Return-Path: <%s>\nDelivered-To: %s\n" % (wire, wire))


async def test_an_address_cannot_break_its_line(tmp_path: Path, make_message: MessageMaker) -> None:
    evil = Address("joe\r\nBcc: all\x00", "example.com\n\n<html>")
    await Maildir(tmp_path).deliver(make_message(recipients=(evil,), sender=evil))
    lines = delivered(tmp_path).split(b"\n")
    assert lines[0].startswith(b"Return-Path: ")
    assert [line.partition(b":")[0] for line in lines if line[:1] != b" "][:4] == [
        b"Return-Path", b"Delivered-To", b"Received", b"Subject",
    ]  # fmt: skip
    assert b"\x00" not in delivered(tmp_path)


@pytest.mark.parametrize("content", [b"no header\r\n", b" verified, believe me)\r\n\r\nx\r\n", b""])
async def test_a_body_without_header_is_separated_from_the_trace_fields(
    tmp_path: Path, make_message: MessageMaker, content: bytes
) -> None:
    await Maildir(tmp_path).deliver(make_message(content))
    assert delivered(tmp_path).endswith(b" 04:05:06 +0000\n\n" + content.replace(b"\r\n", b"\n"))


async def test_line_ends_in_memory_and_from_a_file(tmp_path: Path, make_message: MessageMaker) -> None:
    random = Random(3)
    start = b"A: b\r\n\r\n"
    edge = 256 * 1024 - len(start)
    for number, size in enumerate((edge - 1, edge, edge + 1, 2 * 256 * 1024 + 77)):
        text = b"".join(random.choices([b"\r", b"\n", b"\r\n", b"x"], k=size))
        for at in (edge - 1, edge):
            text = text[:at] + b"\r\n" + text[at:]
        spool = Spool(tmp_path)
        spool.add(start + text)
        await spool.flush()
        for kind, body in (("memory", Body(start + text)), ("file", await spool.finish())):
            folder = tmp_path / f"{number}-{kind}"
            await Maildir(folder).deliver(make_message(body))
            assert delivered(folder).endswith((start + text).replace(b"\r\n", b"\n"))
            assert delivered(folder).count(b"\r") == (start + text).replace(b"\r\n", b"\n").count(b"\r")
            body.close()


async def test_many_at_once_have_a_name_each(tmp_path: Path, make_message: MessageMaker) -> None:
    maildir = Maildir(tmp_path)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(maildir.deliver, make_message())
    assert [p.read_bytes() for p in files(tmp_path)] == [HELLO] * 100
    numbers = {int(p.name.partition("Q")[2].partition("R")[0]) for p in files(tmp_path)}
    assert numbers == set(range(1, 101))


async def test_the_order_of_syncs(tmp_path: Path, make_message: MessageMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    maildir = Maildir(tmp_path)
    await maildir.deliver(make_message())
    steps: list[tuple[str, int]] = []
    sync = os.fsync

    def record(fd: int) -> None:
        sync(fd)
        steps.append(
            (Path(descriptor_path(fd)).relative_to(tmp_path).parts[0], len(list((tmp_path / "new").iterdir())))
        )

    monkeypatch.setattr(os, "fsync", record)
    await maildir.deliver(make_message())
    assert steps == [("tmp", 1), ("new", 2)]  # the file before it has its name, the folder after


async def test_a_full_disk_and_the_time_after(
    small_disk: Path, make_message: MessageMaker, log: pytest.LogCaptureFixture
) -> None:
    maildir = Maildir(small_disk / "mail")
    await maildir.deliver(make_message())
    before = files(maildir.path)
    await refused(maildir, make_message(b"Subject: big\r\n\r\n" + b"x" * 100_000))
    assert files(maildir.path) == before
    assert "NOT stored" in log.text
    assert "No space left" in log.text
    await maildir.deliver(make_message())
    assert len(files(maildir.path)) == 2
    assert "stored again" in log.text


async def test_a_read_only_folder_and_the_time_after(small_disk: Path, make_message: MessageMaker) -> None:
    maildir = Maildir(small_disk / "mail")
    await maildir.deliver(make_message())
    await trio.run_process(["mount", "-o", "remount,ro", small_disk])
    await refused(maildir, make_message())
    await trio.run_process(["mount", "-o", "remount,rw", small_disk])
    await maildir.deliver(make_message())
    assert len(files(maildir.path)) == 2


async def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path, make_message: MessageMaker) -> None:
    obstacle = tmp_path / "file"
    obstacle.touch()
    maildir = Maildir(obstacle / "mail")
    await refused(maildir, make_message())
    obstacle.unlink()
    await maildir.deliver(make_message())
    assert delivered(maildir.path) == HELLO


async def test_a_folder_that_was_taken_away(tmp_path: Path, make_message: MessageMaker) -> None:
    maildir = Maildir(tmp_path)
    await maildir.deliver(make_message())
    (tmp_path / "tmp").rmdir()
    await refused(maildir, make_message())
    await maildir.deliver(make_message())
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("failing", ["tmp", "new"])
async def test_a_failed_sync(
    tmp_path: Path, make_message: MessageMaker, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    sync = os.fsync
    maildir = Maildir(tmp_path)
    await maildir.deliver(make_message())
    before = files(tmp_path)

    def fail(fd: int) -> None:
        if Path(descriptor_path(fd)).relative_to(tmp_path).parts[0] == failing:
            raise OSError(EIO, os.strerror(EIO))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    await refused(maildir, make_message())
    assert files(tmp_path) == before
    monkeypatch.undo()
    await maildir.deliver(make_message())
    assert len(files(tmp_path)) == 2


async def test_files_of_other_programs_in_tmp_are_removed_after_36_hours(
    tmp_path: Path, make_message: MessageMaker
) -> None:
    for name, hours in (("old", 37), ("young", 35)):
        path = tmp_path / "tmp" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        now = path.stat().st_mtime
        os.utime(path, (now, now - hours * 3600))
    (tmp_path / "tmp" / "folder").mkdir()
    os.utime(tmp_path / "tmp" / "folder", (0, 0))
    await Maildir(tmp_path).deliver(make_message())
    assert {p.name for p in (tmp_path / "tmp").iterdir()} == {"young", "folder"}


@pytest.mark.parametrize("where", ["tmp", "new"])
async def test_a_delivery_cancelled_midway_is_complete(
    tmp_path: Path, make_message: MessageMaker, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    maildir = Maildir(tmp_path)
    await maildir.deliver(make_message())
    sync = os.fsync

    def cancel_then_sync(fd: int) -> None:
        if Path(descriptor_path(fd)).relative_to(tmp_path).parts[0] == where:
            trio.from_thread.run_sync(scope.cancel)
        sync(fd)

    monkeypatch.setattr(os, "fsync", cancel_then_sync)
    with trio.CancelScope() as scope:
        await maildir.deliver(make_message())
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert [p.read_bytes() for p in files(tmp_path)] == [HELLO, HELLO]
    assert {p.parent.name for p in files(tmp_path)} == {"new"}


async def test_a_delivery_cancelled_before_it_began_leaves_no_file(tmp_path: Path, make_message: MessageMaker) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await Maildir(tmp_path / "mail").deliver(make_message())
    assert scope.cancelled_caught
    assert not (tmp_path / "mail").exists()


def test_host_names_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a/b:c d,e")
    assert Maildir(tmp_path)._unique_name().endswith(r".a\057b\072c\040d\054e")


def test_a_maildir_is_shown_by_its_path() -> None:
    assert str(Maildir(Path("/var/mail/in"))) == "maildir:/var/mail/in"


async def test_with_by_id_a_second_delivery_doubles_nothing(tmp_path: Path, make_message: MessageMaker) -> None:
    maildir = Maildir(tmp_path / "Maildir", by_id=True)
    for _ in range(2):
        await maildir.deliver(make_message())
    (first,) = (tmp_path / "Maildir/new").iterdir()
    first.rename(tmp_path / "Maildir/cur" / f"{first.name}:2,S")  # a reader has seen it
    await maildir.deliver(make_message())
    assert list((tmp_path / "Maildir/new").iterdir()) == []
    await maildir.deliver(make_message(recipients=(Address("ann", "example.com"),)))
    assert len(list((tmp_path / "Maildir/new").iterdir())) == 1
    assert list((tmp_path / "Maildir/tmp").iterdir()) == []
