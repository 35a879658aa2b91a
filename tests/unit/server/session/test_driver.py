"""The loop of a session: pipelined commands, time-outs, and its end."""

from collections.abc import Iterator
from typing import Any

import trio.testing
from memory_dialogue import conf, hello

from triosmtp.event import Disconnected, MessageAccepted
from triosmtp.testing import open_memory_server


async def test_a_message_from_banner_to_quit() -> None:
    async with open_memory_server(conf()) as server:
        client = server.connect()
        assert str(await client.read()) == "220 mx.example.com ESMTP"
        answer = await client.command("EHLO client.example.org")
        assert answer.lines[0].startswith("mx.example.com")
        assert set(answer.lines[1:]) == {"PIPELINING", "8BITMIME", "SIZE 52428800", "SMTPUTF8", "ENHANCEDSTATUSCODES"}
        assert (await client.command("MAIL FROM:<me@example.org> SIZE=20")).text.startswith("2.1.0")
        assert (await client.command("RCPT TO:<you@example.com>")).text.startswith("2.1.5")
        assert (await client.command("DATA")).code == 354
        await client.send(b"Subject: hi\r\n\r\n..dot\r\n.\r\n")
        final = await client.read()
        assert final.code == 250
        assert final.text.startswith("2.0.0 Ok: queued as ")
        assert (await client.command("QUIT")).code == 221
        assert await client.read_eof() == b""
    [message] = server.messages
    assert message.body == b"Subject: hi\r\n\r\n.dot\r\n"
    assert message.sender == "me@example.org"
    assert message.recipients == ("you@example.com",)
    assert message.trace.startswith(b"Received: from client.example.org (")
    assert b"for <you@example.com>" in message.trace
    assert message.variables["ehlo_string"] == "EHLO client.example.org"
    assert message.variables["ehlo_domain"] == "client.example.org"
    assert message.variables["connection_message_count"] == "1"
    assert message.variables["message_rcpt_count"] == "1"
    assert message.message_variables == {
        "mailfrom_string": "me@example.org",
        "mailfrom_localpart": "me",
        "mailfrom_domain": "example.org",
        "rcptto_string": "you@example.com",
        "rcptto_localpart": "you",
        "rcptto_domain": "example.com",
        "rfc2822_date_missing": "true",
    }
    assert "tls" not in message.variables
    accepted = [e for e in server.events if isinstance(e, MessageAccepted)]
    assert [(e.message, e.size) for e in accepted] == [(final.text.rpartition(" ")[2], len(message.body))]
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["quit"]


async def test_a_pipelined_group_is_answered_in_order() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        await client.send(
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        )
        assert [(await client.read()).code for _ in range(4)] == [250, 550, 250, 354]
        await client.send(b"x: y\r\n\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n")
        assert [(await client.read()).code for _ in range(4)] == [250, 250, 250, 221]
    assert server.messages[0].recipients == ("b@example.com",)


async def test_session_limits_hold_in_memory_too() -> None:
    async with open_memory_server(conf("Listener_Sessions = 1")) as server:
        first = await hello(server)
        assert str(await server.connect().read()) == "421 Too many connections, try again later"
        assert (await first.command("QUIT")).code == 221
        await first.read_eof()
        await trio.testing.wait_all_tasks_blocked()  # the end of a session counts when all of it has ended
        await hello(server)
        assert server.service.statistics.sessions_total == 2


async def test_idle_sessions_end_with_421(autojump_clock: object) -> None:
    async with open_memory_server(conf("Idle_Time = 60")) as server:
        client = await hello(server)
        assert str(await client.read()).startswith("421 4.4.2")
        assert await client.read_eof() == b""
    assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["idle"]


async def test_a_peer_that_disconnects_without_quit_is_reported_so() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert [e.reason for e in server.events if isinstance(e, Disconnected)] == ["peer_closed"]


def _locals_of(task: trio.lowlevel.Task) -> Iterator[tuple[str, object]]:
    """Yield the name of the coroutine and the value of each local variable of a task that waits."""
    waits: Any = task.coro
    while waits is not None and hasattr(waits, "cr_frame"):
        for value in waits.cr_frame.f_locals.values():
            yield waits.__name__, value
        waits = waits.cr_await


async def test_a_session_that_waits_keeps_no_octets_of_its_last_message() -> None:
    async with open_memory_server(conf()) as server:
        client = await hello(server)
        for body in (b"x" * 70 + b"\r\n", (b"x" * 70 + b"\r\n") * 3000):  # both ways to read one
            assert (await client.message("a@example.org", ["b@example.com"], body)).code == 250
            await trio.testing.wait_all_tasks_blocked()
            sessions = [
                dict(_locals_of(task)) for task in server.nursery.child_tasks if task.name.startswith("session")
            ]
            assert len(sessions) == 1
            assert "_converse" in sessions[0]
            for task in server.nursery.child_tasks:
                for _, value in _locals_of(task):
                    octets = getattr(value, "data", value)  # of an event, too
                    assert not isinstance(octets, bytes) or len(octets) < 70
