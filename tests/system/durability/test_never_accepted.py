"""A store that fails at any step: the client never gets 250, no file is left, and the next mail is accepted."""

import errno
import os
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from mail_server import MailServer, small_disk

from triosmtp import Message
from triosmtp.delivery import Delivery, DeliveryError, Maildir
from triosmtp.errors import Reject
from triosmtp.event import MessageAccepted, MessageRefused
from triosmtp.message.spool import Spool, SpoolError
from triosmtp.testing import ScriptedClient, open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}/spool"
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING ) }} }}
"""
SMALL = b"Subject: small\r\n\r\n" + b"x" * 70 + b"\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 20_000
WAYS = ("DATA", "BDAT LAST", "BDAT 0 LAST")


def fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one step of a Maildir fail, in the thread that does it."""

    def broken(*_: object, **__: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real_open, real_fsync = os.open, os.fsync

    def fsync_of(*, directory: bool) -> Callable[[int], None]:
        def fsync(fd: int) -> None:
            if Path(f"/proc/self/fd/{fd}").resolve().is_dir() == directory:
                broken()
            real_fsync(fd)

        return fsync

    def no_open(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if "/tmp/" in str(path).removeprefix("/tmp") and flags & os.O_CREAT:
            broken()
        return real_open(path, flags, *arguments, **more)

    match name:
        case "open":
            monkeypatch.setattr(os, "open", no_open)
        case "write":
            monkeypatch.setattr(os, "write", broken)
        case "a write that writes nothing more":
            written = iter((10, 0))
            monkeypatch.setattr(
                os, "write", lambda fd, data: os.pwrite(fd, data[:10], 0) if next(written, 0) else broken()
            )
        case "fsync of the file":
            monkeypatch.setattr(os, "fsync", fsync_of(directory=False))
        case "close":
            real_close = os.close

            def close(fd: int) -> None:
                path = str(Path(f"/proc/self/fd/{fd}").readlink())
                real_close(fd)
                if "/Maildir/tmp/" in path:
                    broken()

            monkeypatch.setattr(os, "close", close)
        case "rename":
            monkeypatch.setattr(Path, "rename", broken)
        case "fsync of the folder":
            monkeypatch.setattr(os, "fsync", fsync_of(directory=True))


STEPS = [
    "open", "write", "a write that writes nothing more", "fsync of the file", "close", "rename", "fsync of the folder",
]  # fmt: skip


async def bring(client: ScriptedClient, way: str, body: bytes) -> int:
    for line in ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>"):
        assert (await client.command(line)).code == 250
    if way == "DATA":
        assert (await client.command("DATA")).code == 354
        await client.send(body + b".\r\n")
    elif way == "BDAT LAST":
        await client.send(b"BDAT %d LAST\r\n%s" % (len(body), body))
    else:
        await client.send(b"BDAT %d\r\n%s" % (len(body), body))
        assert (await client.read()).code == 250
        await client.send(b"BDAT 0 LAST\r\n")
    return (await client.read()).code


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("step", STEPS)
async def test_each_step_of_a_maildir(tmp_path: Path, step: str, body: bytes, way: str) -> None:
    maildir = tmp_path / "Maildir"
    async with open_memory_server(CONF.format(folder=tmp_path), deliver=Maildir(maildir)) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        assert await bring(client, way, SMALL) == 250
        before = files(maildir)
        with pytest.MonkeyPatch.context() as patch:
            fails(step, patch)
            assert await bring(client, way, body) == 452
        assert files(maildir) == before
        assert await bring(client, way, body) == 250
        assert len(files(maildir)) == 2
        told = [type(event) for event in server.events if isinstance(event, MessageAccepted | MessageRefused)]
        assert told == [MessageAccepted, MessageRefused, MessageAccepted]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", ["flush", "finish"])
async def test_each_step_of_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, way: str) -> None:
    async def broken(self: Spool) -> Any:
        raise SpoolError("broken", errno.EIO, tmp_path)

    async with open_memory_server(CONF.format(folder=tmp_path)) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        with monkeypatch.context() as patch:
            patch.setattr(Spool, step, broken)
            assert await bring(client, way, LARGE) == 452
        assert [len(message.body) for message in server.messages] == []
        assert await bring(client, way, LARGE) == 250
        assert [message.body for message in server.messages] == [LARGE]


class Raises(Delivery):
    """Fails at the chosen step."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    async def deliver(self, message: Message) -> None:
        if self.error is not None:
            raise self.error


def cancelled_inside() -> BaseException:
    return ExceptionGroup("in a nursery", [OSError(errno.ENOSPC, "full"), ValueError("x")])


ERRORS = [
    (OSError(errno.ENOSPC, "No space left on device"), 451),
    (MemoryError(), 451),
    (StopIteration("x"), 451),
    (trio.TooSlowError(), 451),
    (cancelled_inside(), 451),
    (DeliveryError("x"), 451),
    (DeliveryError("x", storage=True), 452),
    (Reject(550, "5.7.1", "No"), 550),
    (Reject(451, "4.7.1", "Later"), 451),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("way", WAYS)
async def test_no_exception_of_a_delivery_accepts_a_message(
    tmp_path: Path, error: BaseException, code: int, way: str
) -> None:
    delivery = Raises(error)
    async with open_memory_server(CONF.format(folder=tmp_path), deliver=delivery) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        assert await bring(client, way, SMALL) == code
        delivery.error = None
        assert await bring(client, way, SMALL) == 250
        told = [type(event) for event in server.events if isinstance(event, MessageAccepted | MessageRefused)]
        assert told == [MessageRefused, MessageAccepted]


async def test_a_delivery_that_cancels_its_own_scope_has_failed(tmp_path: Path) -> None:
    """One that gives up in silence has returned: that is 250.  One that fails at its deadline has not."""

    class Late(Delivery):
        async def deliver(self, message: Message) -> None:
            with trio.fail_after(0):
                await trio.sleep_forever()

    async with open_memory_server(CONF.format(folder=tmp_path), deliver=Late()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        assert await bring(client, "DATA", SMALL) == 451


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["Maildir", "spool"])
def test_a_full_disk(tmp_path: Path, where: str, workers: int) -> None:
    """The client gets 452 until there is space; each message with a 250 is complete."""
    with small_disk(tmp_path / where, "1m"):
        server = MailServer(tmp_path)
        conf = tmp_path / "triosmtp.conf"
        conf.write_text(conf.read_text() + (f"\nWorkers = {workers}\n" if workers else ""))
        server.start()
        try:
            filler = tmp_path / where / "filler"
            with smtplib.SMTP("127.0.0.1", server.port, "client.example.org", 30) as client:
                client.ehlo()
                codes: list[int] = []
                for full in (False, True, True, False):
                    filler.write_bytes(b"x" * (900_000 if full else 0))
                    client.mail("me@example.org")
                    client.rcpt("you@example.com")
                    body = LARGE[:700_000] if where == "Maildir" else LARGE
                    codes.append(client.data(body if full or where == "Maildir" else SMALL)[0])
                    if where == "Maildir" and not full:
                        for path in server.files("new"):
                            path.unlink()
        finally:
            server.stop()
    assert codes == [250, 452, 452, 250]
