"""Scripts with their expected dialogues: a small language in the last comment of a script.

::

    file NAME, dns      what the test needs: lines with | follow (a file's content, records of DNS)
    options TEXT        options of the Listen
    http CODE TEXT      an HTTP server answers so; "requested METHOD TARGET SENDER BODY" is what it was asked
    clock               the time of the test is Trio's mock clock
    connect [PEER]      open a connection; the banner is read before the first command
    > COMMAND           send a command
    < TEXT              the reply begins with TEXT; its lines are divided by " | "
    lines A | B         the reply has these lines
    lacks WORD          no line of the reply begins with WORD
    message FROM TO …   send a message, with its lines behind |; "-" is the null sender
    closed              the server closes the connection
    delivered N         N messages were delivered
    content A | B       the lines of the last one
    copy TO A | B       the lines of the one for TO alone
    recipients TO …     its recipients
    sender FROM         its sender
    auth USER PASSWORD  send AUTH PLAIN
    console WORDS       run a command of the console; "= TEXT" is in its answer
    logged TEXT         TEXT was logged
    passed SECONDS      time since the previous line of this kind, or since the beginning
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from attrs import Factory, define
from http_server import Request

from triosmtp.server.local_sessions import LocalSessions, ScriptAnswer
from triosmtp.testing import MemoryServer, ReceivedMessage, ScriptedClient
from triosmtp.testing.scripted_client import Answer

SCRIPTS = Path(__file__).parents[1] / "system" / "lua" / "scripts"
_DIALOGUE = re.compile(r"--\[\[ dialogue\n(.*)\n\]\]\s*\Z", re.DOTALL)


@define(slots=True)
class Step:
    """One line of a dialogue, with the lines behind | that follow it."""

    word: str
    rest: str
    lines: list[str] = Factory(list)


def steps_of(path: Path) -> list[Step]:
    """Return the steps of a script's dialogue."""
    match = _DIALOGUE.search(path.read_text("utf-8"))
    assert match is not None, f"{path} has no dialogue"
    steps: list[Step] = []
    for line in match[1].splitlines():
        word, _, rest = line.partition(" ")
        if word == "|":
            steps[-1].lines.append(rest)
        else:
            steps.append(Step(word, rest.replace("\\t", "\t")))
    return steps


def names(*, timed: bool) -> list[str]:
    """Return the names of the scripts that need a mock clock, or of the others."""
    found = sorted(path.stem for path in SCRIPTS.glob("*.lua"))
    return [name for name in found if ("\nclock\n" in (SCRIPTS / f"{name}.lua").read_text("utf-8")) == timed]


@define(slots=True)
class Dialogue:
    """A dialogue with a server while it runs."""

    server: MemoryServer
    log: Callable[[], str]
    folder: Path
    requests: list[Request]
    client: ScriptedClient
    greeted: bool = False
    unread: int = 0
    last: Answer | None = None
    answers: list[ScriptAnswer] = Factory(list)
    since: float = Factory(trio.current_time)

    async def run(self, steps: list[Step]) -> None:
        """Take the steps."""
        for step in steps:
            if step.word not in _FOR_THE_TEST:
                await _HANDLERS[step.word](self, step)

    async def _reply(self) -> Answer:
        self.greeted = True
        self.unread = max(0, self.unread - 1)
        self.last = await self.client.read()
        return self.last

    async def _greet(self) -> None:
        if not self.greeted:
            assert (await self._reply()).code == 220

    async def connect(self, step: Step) -> None:
        await self._greet_if_open()
        self.client = self.server.connect(peer=step.rest or "192.0.2.1")
        self.greeted = False

    async def _greet_if_open(self) -> None:
        if not self.greeted and self.last is None:
            await self._greet()

    async def send(self, step: Step) -> None:
        await self._greet()
        await self.client.send(step.rest.encode() + b"\r\n")
        self.unread += 1

    async def reply(self, step: Step) -> None:
        answer = await self._reply()
        found = f"{answer.code} {' | '.join(answer.lines)}"
        assert found.startswith(step.rest), f"{found!r} does not begin with {step.rest!r}"

    async def has_lines(self, step: Step) -> None:
        found = (await self._reply()).lines
        assert set(step.rest.split(" | ")) <= set(found), found

    async def lacks(self, step: Step) -> None:
        if self.unread:
            await self._reply()
        assert self.last is not None
        assert not [line for line in self.last.lines if line.startswith(step.rest)]

    async def message(self, step: Step) -> None:
        await self._greet()
        sender, *recipients = ["" if each == "-" else each for each in step.rest.split()]
        for command in [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"]:
            answer = await self.client.command(command)
            assert answer.code < 400, f"{command}: {answer}"
        await self.client.send("".join(f"{line}\r\n" for line in [*step.lines, "."]).encode())
        self.unread += 1

    async def closed(self, _step: Step) -> None:
        assert await self.client.read_eof() == b""
        self.greeted = True

    async def delivered(self, step: Step) -> None:
        assert len(self.server.messages) == int(step.rest)

    async def content(self, step: Step) -> None:
        assert _content(self.server.messages[-1]) == step.rest

    async def copy(self, step: Step) -> None:
        recipient, _, expected = step.rest.partition(" ")
        assert [_content(each) for each in self.server.messages if each.recipients == (recipient,)] == [expected]

    async def recipients(self, step: Step) -> None:
        found = [each for message in self.server.messages for each in message.recipients]
        assert sorted(found) == sorted(step.rest.split())

    async def sender(self, step: Step) -> None:
        assert (self.server.messages[-1].sender or "-") == step.rest

    async def auth(self, step: Step) -> None:
        user, password = step.rest.split()
        response = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        await self.send(Step(">", f"AUTH PLAIN {response}"))

    async def write_file(self, step: Step) -> None:
        (self.folder / step.rest).write_text("\n".join(step.lines))

    async def requested(self, step: Step) -> None:
        request = self.requests[-1]
        found = request.method, request.target, request.header("x-sender"), request.body.decode()
        assert " ".join(found) == step.rest

    async def console(self, step: Step) -> None:
        self.answers = await LocalSessions(self.server.service).script_command(step.rest.split())

    async def answered(self, step: Step) -> None:
        (answer,) = self.answers
        assert step.rest in answer.text

    async def logged(self, step: Step) -> None:
        assert step.rest in self.log(), self.log()

    async def passed(self, step: Step) -> None:
        now = trio.current_time()
        assert abs(now - self.since - float(step.rest)) < 0.01
        self.since = now


def _content(message: ReceivedMessage) -> str:
    return " | ".join(message.body.decode().removesuffix("\r\n").split("\r\n"))


_FOR_THE_TEST = {"dns", "http", "options", "clock"}
_HANDLERS: dict[str, Any] = {
    "connect": Dialogue.connect,
    ">": Dialogue.send,
    "<": Dialogue.reply,
    "lines": Dialogue.has_lines,
    "lacks": Dialogue.lacks,
    "message": Dialogue.message,
    "closed": Dialogue.closed,
    "delivered": Dialogue.delivered,
    "content": Dialogue.content,
    "copy": Dialogue.copy,
    "recipients": Dialogue.recipients,
    "sender": Dialogue.sender,
    "logged": Dialogue.logged,
    "auth": Dialogue.auth,
    "requested": Dialogue.requested,
    "console": Dialogue.console,
    "=": Dialogue.answered,
    "file": Dialogue.write_file,
    "passed": Dialogue.passed,
}
