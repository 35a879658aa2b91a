"""One connection to a hop: pipelining, the octets of the message, replies that answer nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from scripted_hop import EXTENSIONS, ORIGIN, ScriptedHop, connected, envelope, message

from triosmtp.message import Recipient
from triosmtp.next_hop.hop_connection import HopConnection
from triosmtp.next_hop.hop_error import HopError
from triosmtp.next_hop.hop_settings import HopAddress, HopTimeouts
from triosmtp.smtp import Address

VARIANTS = [
    b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\n..\r\n", b"\n\n.\n\n",
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
async def test_every_end_of_data_arrives_as_one_message(tmp_path: Path, variant: bytes) -> None:
    """The listener may have let it in: the second leg is canonical."""
    hop = ScriptedHop()
    body = b"Subject: x\r\n\r\nfirst" + variant + b"MAIL FROM:<forged@example.org>\r\n"
    async with connected(tmp_path, hop) as (delivery, _):
        (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com", body=body))
    assert result.code == 250
    (received,) = hop.messages
    lines = received.data.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert b"MAIL FROM:<forged@example.org>" in lines
    assert [each[:4] for each in hop.commands] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_many_recipients_are_sent_in_groups(tmp_path: Path) -> None:
    hop = ScriptedHop({"RCPT 7@example.com": "550 5.1.1 No"})
    names = [f"{number}@example.com" for number in range(160)]
    async with connected(tmp_path, hop) as (delivery, _):
        results = await delivery.begin(envelope(), ORIGIN).deliver_each(message(*names))
    assert [each.code for each in results].count(550) == 1
    assert results[7].code == 550
    assert len(hop.messages[0].recipients) == 159


async def test_without_pipelining_nothing_is_sent_ahead(tmp_path: Path) -> None:
    hop = ScriptedHop({"MAIL": "550 5.7.1 No"}, extensions=EXTENSIONS[1:])
    async with connected(tmp_path, hop) as (delivery, _):
        results = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com", "b@example.com"))
        assert [(each.code, each.text) for each in results] == [(550, "No")] * 2
        result = await delivery.begin(envelope(), ORIGIN).verify(Recipient(Address("a", "example.com"), {}))
        assert (result.code, result.text) == (550, "No")
    assert not any(each.startswith("RCPT") for each in hop.commands)


async def test_an_unasked_reply_ends_the_use_of_a_connection(tmp_path: Path) -> None:
    hop = ScriptedHop({"end": "250 2.0.0 Ok\r\n250 2.0.0 again"})
    async with connected(tmp_path, hop) as (delivery, health):
        for _ in range(2):
            (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            assert result.code in {250, 451}
        assert health.connections <= 1
    assert len(hop.sessions) == 2, "the late answer meets no other question"


async def test_a_reply_that_comes_while_a_connection_is_idle(tmp_path: Path) -> None:
    hop = ScriptedHop()
    async with connected(tmp_path, hop) as (delivery, _):
        for count in (1, 2):
            (result,) = await delivery.begin(envelope(), ORIGIN).deliver_each(message("a@example.com"))
            assert result.code == 250
            assert len(hop.sessions) == count
            await trio.testing.wait_all_tasks_blocked()  # the hop has sent its reply
            await hop.streams[-1].send_all(b"250 2.0.0 Stray\r\n")


async def test_a_large_message_is_sent_in_pieces(tmp_path: Path) -> None:
    sizes: list[int] = []
    hop = ScriptedHop(extensions=EXTENSIONS[:-2])

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 60_000 + b"\r\n"

    async with connected(tmp_path, hop), await trio.open_unix_socket(str(tmp_path / "hop")) as transport:
        connection = HopConnection(transport, HopAddress(path="x"), HopTimeouts())
        send = connection.send

        async def counted(data: bytes) -> None:
            sizes.append(len(data))
            await send(data)

        connection.send = counted  # type: ignore[method-assign]
        await connection.read()
        await connection.run([b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n"])
        (answer,) = await connection.send_message(chunks())
        assert not isinstance(answer, HopError)
        assert answer.code == 250
        assert connection.is_committed
    assert max(sizes) <= 65536
    assert len(hop.messages[0].data) == 8 * 60_002


async def test_a_connection_that_breaks_with_the_last_octets(tmp_path: Path) -> None:
    """Some of them may have arrived: the hop may have the message."""
    hop = ScriptedHop(extensions=EXTENSIONS[:-2])

    async def chunks() -> AsyncIterator[bytes]:
        yield b"text\r\n"

    async with connected(tmp_path, hop), await trio.open_unix_socket(str(tmp_path / "hop")) as transport:
        connection = HopConnection(transport, HopAddress(path="x"), HopTimeouts())
        send = connection.send

        async def broken(data: bytes) -> None:
            await send(data)
            if data.endswith(b".\r\n"):
                raise HopError("the connection broke", gone=True)

        connection.send = broken  # type: ignore[method-assign]
        await connection.read()
        await connection.run([b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<a@b>\r\n"])
        (answer,) = await connection.send_message(chunks())
        assert isinstance(answer, HopError)
        assert connection.is_committed
        assert not connection.is_usable
