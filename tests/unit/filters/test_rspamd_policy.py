"""Answers of rspamd that cannot be applied, hostile ones, and messages that cannot be sent."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from http_server import Answer, HTTPServer, answer, http_server, nothing, raw, silence

from triosmtp.event import MessageRefused, PolicyFallback
from triosmtp.message.spool import Body, SpoolError
from triosmtp.testing import MemoryServer, open_memory_server

OK = answer('{"action":"no action"}')
LOCAL_ERROR = "451 4.3.0 Local error in processing"


def conf(server: HTTPServer, scope: str = "", more: str = "") -> str:
    return f"""
        Relay_Domains = ( "example.com" )
        Policy = ( "filter:spam" )
        {more}
        Filter "spam" {{ Connect_To = "rspamd:http://127.0.0.1:{server.port}" {scope} }}
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """


async def send(server: MemoryServer, text: bytes = b"Subject: x\r\n\r\nhello") -> str:
    client = server.connect()
    await client.read()
    for command in ("EHLO client.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<you@example.com>", "DATA"):
        await client.command(command)
    await client.send(text)
    reply = str(await client.command("\r\n."))
    await client.aclose()
    return reply


def fallbacks(server: MemoryServer) -> list[str]:
    return [event.failure for event in server.events if isinstance(event, PolicyFallback)]


async def outcome(said: Answer, scope: str = "") -> tuple[str, list[str], list[bytes]]:
    async with http_server(said) as remote, open_memory_server(conf(remote, scope)) as server:
        with trio.fail_after(20):
            reply = await send(server)
        return reply, fallbacks(server), [message.body for message in server.messages]


def milter(**block: Any) -> Answer:
    return answer(json.dumps({"action": "no action", "milter": block}))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (nothing, "not an answer of HTTP: Server disconnected without sending a response."),
        (raw(b"220 smtp\r\n"), "not an answer of HTTP: "),
        (answer("", 403), "answered 403"),
        (answer('{"error":"x"}', 500), "answered 500"),
        (answer("", 302, ("Location", "/other")), "answered 302"),
        (answer('{"error":"x"}'), "the answer cannot be applied: the error 'x'"),
        (answer("x" * 300_000), "the answer has more than 262144 octets"),
        (answer("{}", 200, ("Content-Encoding", "gzip")), "the answer is compressed, which was not asked for"),
        (milter(add_headers={"X Y": "z"}), "the answer cannot be applied: "),
        (milter(add_headers={"X": ["z"] * 300}), "the answer cannot be applied: "),
        (milter(remove_headers={f"X{number}": 0 for number in range(300)}), "the answer cannot be applied: "),
    ],
)
async def test_what_cannot_be_applied_is_the_fallback_and_changes_nothing(said: Answer, failure: str) -> None:
    reply, told, bodies = await outcome(said)
    assert (reply, bodies) == (LOCAL_ERROR, [])
    assert len(told) == 1
    assert told[0].startswith(failure)
    reply, told, bodies = await outcome(said, 'Policy_Fallback = "continue"')
    assert (reply[:3], bodies) == ("250", [b"Subject: x\r\n\r\nhello\r\n"])
    assert len(told) == 1


async def test_no_answer_in_time_is_the_fallback_and_opens_the_circuit_breaker() -> None:
    async with http_server(silence) as remote, open_memory_server(conf(remote, "Policy_Timeout = 0.02")) as server:
        for _ in range(6):
            assert await send(server) == LOCAL_ERROR
        assert fallbacks(server) == ["timed out after 0.02 s"] * 5 + [
            "the circuit breaker is open after 5 time-outs in a row"
        ]
        [status] = server.service.hub.filters.status()
        assert (status["asked"], status["timeouts"], status["fallbacks"], status["breaker"]) == (6, 5, 6, "open")


async def test_a_connection_that_breaks_is_tried_again_once() -> None:
    async def once(remote: HTTPServer, stream: trio.abc.Stream, request: Any) -> None:
        if len(remote.requests) > 1:
            await OK(remote, stream, request)

    async with http_server(once) as remote, open_memory_server(conf(remote)) as server:
        assert (await send(server)).startswith("250")
        assert [request.target for request in remote.requests] == ["/checkv2"] * 2
        assert remote.requests[0] == remote.requests[1]
        assert not fallbacks(server)


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("5.7.9 No", "554 5.7.9 No"),
        ("4.2.1 Odd", "554 5.2.1 Odd"),
        ("a\r\n250 ok\0b", "554 5.7.1 a 250 ok b"),
        ("", "554 5.7.1 Spam message rejected"),
        ("x" * 1000, f"554 5.7.1 {'x' * 400}"),
        ("\u00e9", "554 5.7.1 ?"),
    ],
)
async def test_the_text_of_a_refusal_stays_on_its_line(message: str, reply: str) -> None:
    found, _, _ = await outcome(answer(json.dumps({"action": "reject", "messages": {"smtp_message": message}})))
    assert found == reply


async def test_values_stay_within_their_fields() -> None:
    block = {"X-A": "a\r\nBcc: x", "X-B": "b\r\n\r\nbody", "X-C": {"value": "c\n\td", "order": 1}}
    reply, _, [body] = await outcome(milter(add_headers=block))
    assert reply.startswith("250")
    assert body == b"X-C: c\r\n\td\r\nSubject: x\r\nX-A: a\r\n\tBcc: x\r\nX-B: b\r\n\tbody\r\n\r\nhello\r\n"


async def test_a_subject_that_is_not_ascii_is_encoded_and_replaces_the_one_that_is_there() -> None:
    said = answer(json.dumps({"action": "rewrite subject", "subject": "\u2620 x\r\nBcc: y"}))
    _, _, [body] = await outcome(said)
    assert body == b"Subject: =?utf-8?b?4pigIHggQmNjOiB5?=\r\n\r\nhello\r\n"


async def test_add_header_adds_the_mark_unless_rspamd_does() -> None:
    _, _, [body] = await outcome(answer('{"action":"add header"}'))
    assert body.startswith(b"Subject: x\r\nX-Spam: Yes\r\n\r\n")
    said = {"action": "add header", "milter": {"add_headers": {"x-spam": "surely"}}}
    _, _, [body] = await outcome(answer(json.dumps(said)))
    assert body.startswith(b"Subject: x\r\nx-spam: surely\r\n\r\n")


async def test_the_sender_and_recipients_change_within_the_rules() -> None:
    async with (
        http_server(milter(change_from="new@example.org")) as remote,
        open_memory_server(conf(remote)) as server,
    ):
        assert (await send(server)).startswith("250")
        assert server.messages[0].sender == "new@example.org"
        remote.answer = milter(del_rcpt="you@example.com")
        assert (await send(server)).startswith("250")
        assert len(server.messages) == 1  # nobody is left
        remote.answer = milter(add_rcpt="no address")
        assert await send(server) == "451 4.3.5 Server configuration error"
        refused = [event.reason for event in server.events if isinstance(event, MessageRefused)]
        assert "the changes are not allowed: " in refused[0]


async def test_the_password_is_sent_and_a_new_one_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "password").write_text("first secret\n")
    async with (
        http_server(OK) as remote,
        open_memory_server(conf(remote, f'Password_File = "{tmp_path}/password"')) as server,
    ):
        assert (await send(server)).startswith("250")
        (tmp_path / "password").write_text("second secret\n")
        monkeypatch.setattr("triosmtp.delivery.secret_file._CHECK_INTERVAL", 0)
        assert (await send(server)).startswith("250")
        assert [request.header("password") for request in remote.requests] == ["first secret", "second secret"]
        assert "secret" not in caplog.text + repr(server.events)


async def test_a_message_that_cannot_be_read_is_452(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def broken(body: Body) -> Any:
        if body.size:
            raise SpoolError("the disk has failed", None, tmp_path)
        yield b""

    async with http_server(OK) as remote, open_memory_server(conf(remote)) as server:
        monkeypatch.setattr(Body, "chunks", broken)
        assert await send(server) == "452 4.3.1 Insufficient system storage"
        assert not fallbacks(server)
