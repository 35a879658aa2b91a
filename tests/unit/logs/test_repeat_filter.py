"""Repeated events of a session: twenty lines, then a count.  Other observers still receive each event."""

import io
import logging
import re

import pytest
import trio.testing

from triosmtp import Policy
from triosmtp.event import AuthAttempted, Connected, Disconnected, MessageAccepted, Refused, ServerEvent, SessionInfo
from triosmtp.logs.event_log import EventLog
from triosmtp.logs.repeat_filter import RepeatFilter
from triosmtp.policy import Session
from triosmtp.testing import open_memory_server


def refused(session: str = "s", code: int = 503, phase: str = "command", by: str = "protocol") -> Refused:
    return Refused(
        session=SessionInfo(id=session, peer="192.0.2.1:1"),
        phase=phase,
        code=code,
        enhanced="5.5.1",
        text="No",
        decided_by=by,
        reason="why",
    )


def ended(session: str = "s") -> Disconnected:
    return Disconnected(session=SessionInfo(id=session, peer="192.0.2.1:1"), reason="quit", seconds=1.0, messages=0)


def accepted(session: str = "s") -> MessageAccepted:
    return MessageAccepted(
        session=SessionInfo(id=session, peer="p"),
        message="m",
        sender="a@b",
        recipients=("c@d",),
        size=1,
        seconds=0.1,
        tls=None,
    )


def attempt() -> AuthAttempted:
    return AuthAttempted(
        session=SessionInfo(id="s", peer="p", listener="l"), mechanism="PLAIN", user="u", succeeded=False
    )


def lines(*events: ServerEvent, level: int = logging.INFO) -> list[str]:
    """Return the written lines, without the time."""
    out = io.StringIO()
    log = EventLog(out, level)
    for event in events:
        log(event)
    return [line.split(" ", 3)[3] for line in out.getvalue().splitlines()]


def summaries(found: list[str]) -> list[str]:
    return [" ".join(re.findall(r"^\S+|code=\d+|phase=\S+|folded=\d+", line)) for line in found if "folded=" in line]


def test_twenty_lines_and_a_count() -> None:
    found = lines(*[refused()] * 5000, ended())
    assert len(found) == 22
    assert found[0] == found[19]
    assert found[20] == f"{found[0]} folded=4980"
    assert found[21].startswith("disconnected")


def test_twenty_are_all_written() -> None:
    assert summaries(lines(*[refused()] * 20, ended())) == []


def test_sessions_and_kinds_are_counted_separately() -> None:
    events: list[ServerEvent] = [refused(), refused(code=501), refused(phase="rcptto", code=550)]
    events += [refused("t"), attempt()]
    found = lines(*events * 20)
    assert len(found) == 100
    assert summaries(found) == []


def test_the_count_is_written_at_the_next_event_of_another_kind() -> None:
    found = lines(*[refused()] * 50, refused(code=501), *[refused()] * 50, ended())
    assert summaries(found) == ["refused phase=command code=503 folded=30", "refused phase=command code=503 folded=50"]
    assert len(found) == 20 + 1 + 1 + 1 + 1


def test_two_kinds_in_turn_do_not_bring_out_a_line_each() -> None:
    found = lines(*[refused(), refused(code=501)] * 5000, ended())
    assert len(found) < 40 + 2 * 5000 / 20 + 5
    assert sum(int(count) for count in re.findall(r"folded=(\d+)", " ".join(found))) == 10_000 - 40


def test_too_many_kinds_share_one_count() -> None:
    found = lines(*(refused(by=f"python:P{number}") for number in range(10_000)), ended())
    assert len(found) < 100 + 10_000 / 20


def test_an_accepted_message_resets_the_count() -> None:
    few: list[ServerEvent] = [*[refused()] * 15, accepted()]
    many: list[ServerEvent] = [*[refused()] * 25, accepted()]
    assert len(lines(*few * 10, ended())) == 161
    assert len(lines(*many * 2, ended())) == 2 * (20 + 1 + 1) + 1


def test_accepted_messages_are_never_folded() -> None:
    assert len(lines(*[accepted()] * 500)) == 500


def test_the_filter_remembers_a_bounded_number_of_sessions() -> None:
    fold = RepeatFilter()
    for number in range(30_000):  # of sessions whose end nobody told
        list(fold(refused(str(number))))
    assert len(fold._sessions) == 10_000
    for number in range(30_000):
        list(fold(ended(str(number))))
    assert len(fold._sessions) == 0
    assert lines(*[refused()] * 50, ended(), level=logging.WARNING) == []


async def test_in_a_session() -> None:
    out = io.StringIO()
    log = EventLog(out)
    config = 'Max_Command_Errors = 100 ESMTP_Listener { Listen ":25" { } }'
    async with open_memory_server(config) as server:
        server.service.observers.add(log)
        client = server.connect()
        for _ in range(60):
            await client.send(b"NONSENSE\r\n")
        for _ in range(61):
            await client.read()
        await client.command("QUIT")
        await client.read_eof()
        await trio.testing.wait_all_tasks_blocked()
        told = [event for event in server.events if not isinstance(event, Connected)]
    assert len([event for event in told if isinstance(event, Refused)]) == 60
    assert out.getvalue().count(" refused ") == 21
    assert " folded=40\n" in out.getvalue()


class Broken(Policy):
    async def validate_rcptto(self, session: Session, recipient: object, parameters: object) -> None:
        raise RuntimeError("broken")


async def test_tracebacks_of_a_policy_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with open_memory_server('ESMTP_Listener { Listen ":25" { } }', policy=Broken()) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO x")
        await client.command("MAIL FROM:<>")
        for _ in range(50):
            assert (await client.command("RCPT TO:<a@example.com>")).code == 451
    failed = [record for record in caplog.records if record.exc_info]
    assert len(failed) == 20
    assert "later failures in this session are not logged" in failed[-1].getMessage()
