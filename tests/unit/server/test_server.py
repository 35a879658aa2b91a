"""A server: how it starts, and the end of its sessions."""

import errno
import smtplib
from typing import Any

import pytest
import trio
from listen_server import LISTEN, conf, connect, serving

from triosmtp.event import Disconnected, ServerEvent
from triosmtp.server.session.driver import SMTPSession


async def test_serve_starts_with_its_addresses_and_takes_mail() -> None:
    async with serving(conf()) as server:
        host, port = server.addresses[LISTEN]
        assert host == "127.0.0.1"

        def send() -> None:
            with smtplib.SMTP(host, port) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nbody\r\n")

        await trio.to_thread.run_sync(send)
        assert server.statistics.messages_accepted == 1
        assert server.statistics.sessions_total == 1


async def test_a_connection_that_cannot_be_served_costs_no_other_and_counts_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = SMTPSession.__init__
    failures = [OSError(errno.ENOTCONN, "it was reset"), RuntimeError("whatever")]

    def fails(self: SMTPSession, *arguments: Any) -> None:
        if failures:
            raise failures.pop()
        made(self, *arguments)

    monkeypatch.setattr(SMTPSession, "__init__", fails)
    async with serving(conf("Connections_Per_Peer = 1 Service_Sessions = 1")) as server:
        for _ in range(2):
            with pytest.raises(EOFError):  # the connection is closed, and nothing was said
                await (await connect(server)).read()
        assert (await (await connect(server)).read()).code == 220
        assert server.statistics.sessions == 1
    assert caplog.messages == ["an accepted connection cannot be served: it is closed"] * 2


async def test_aclose_ends_idle_sessions_with_421_and_finishes_a_message() -> None:
    events: list[ServerEvent] = []
    async with serving(conf(), observers=[events.append]) as server:
        idle, busy = await connect(server), await connect(server)
        for client in (idle, busy):
            await client.read()
            await client.command("EHLO c.example.org")
        await busy.command("MAIL FROM:<a@example.org>")
        await busy.command("RCPT TO:<b@example.com>")
        assert (await busy.command("DATA")).code == 354
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose, 30)
            assert str(await idle.read())[:9] == "421 4.3.2"
            assert await idle.read_eof() == b""
            await busy.send(b"x: y\r\n\r\n.\r\n")
            assert (await busy.read()).code == 250
            assert str(await busy.read())[:9] == "421 4.3.2"
            assert await busy.read_eof() == b""
        with pytest.raises(OSError, match=r"refused|failed"):
            await connect(server)
    assert [e.reason for e in events if isinstance(e, Disconnected)] == ["drain", "drain"]


async def test_after_the_grace_period_sessions_end_with_421() -> None:
    async with serving(conf()) as server, trio.open_nursery() as nursery:
        client = await connect(server)
        await client.read()
        await client.command("EHLO c.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        nursery.start_soon(server.aclose, 0)
        assert (await client.read()).code == 421
        assert await client.read_eof() == b""
        await client.aclose()


async def test_aclose_works_twice_and_without_sessions() -> None:
    async with serving(conf()) as server:
        await server.aclose()
        await server.aclose()
