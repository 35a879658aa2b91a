"""Scripts for each function, with their dialogues: ``scripts/*.lua``.  ``script_dialogue.py`` explains their form."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio.testing
from dns_server import Records, dns_server
from http_server import HTTPServer, answer, http_server
from memory_dialogue import conf
from script_dialogue import SCRIPTS, Dialogue, Step, names, steps_of

from triosmtp.config import load_config
from triosmtp.lua.api.function_table import entries
from triosmtp.testing import open_memory_server


@asynccontextmanager
async def responder_for(steps: list[Step]) -> AsyncIterator[str]:
    """Run a DNS server with the records of a dialogue, if there are any; return its address."""
    lines = [line for step in steps if step.word == "dns" for line in step.lines]
    if not lines:
        yield ""
        return
    records: dict[tuple[str, str], list[str]] = {}
    for name, kind, value in (line.split(" ", 2) for line in lines):
        records.setdefault((name, kind), []).append(value)
    served: Records = records
    async with dns_server(served) as server:
        server.failing.add("fails.example")
        yield server.text


@asynccontextmanager
async def http_for(steps: list[Step]) -> AsyncIterator[HTTPServer | None]:
    """Run an HTTP server with the answer of a dialogue, if there is one."""
    words = next((step.rest for step in steps if step.word == "http"), "")
    if not words:
        yield None
        return
    status, _, body = words.partition(" ")
    async with http_server(answer(body, int(status), ("X-Reason", "policy"))) as server:
        yield server


async def converse(name: str, folder: Path, log: pytest.LogCaptureFixture) -> None:
    steps = steps_of(SCRIPTS / f"{name}.lua")
    options = "".join(step.rest for step in steps if step.word == "options")
    for step in reversed(steps):  # the first of a name is there at the beginning
        if step.word == "file":
            (folder / step.rest).write_text("\n".join(step.lines))
    async with responder_for(steps) as server_name, http_for(steps) as web:
        text = (SCRIPTS / f"{name}.lua").read_text("utf-8")
        text = text.replace("{folder}", str(folder)).replace("{dns}", server_name)
        text = text.replace("{http}", "" if web is None else web.url)
        (folder / f"{name}.lua").write_text(text)
        stanza = f'scriptlet "scriptlet" {{ script "{name}" {{ source = "{name}" }} }}'
        (folder / "main.conf").write_text(stanza + conf(options))
        log.set_level("DEBUG", "triosmtp")
        async with open_memory_server(load_config(folder / "main.conf")) as server:
            dialogue = Dialogue(server, lambda: log.text, folder, [] if web is None else web.requests, server.connect())
            await dialogue.run(steps)


@pytest.mark.parametrize("name", names(timed=False))
async def test_a_script_has_its_dialogue(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await converse(name, tmp_path, caplog)


@pytest.mark.parametrize("name", names(timed=True))
async def test_a_script_has_its_dialogue_in_time(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    await converse(name, tmp_path, caplog)


def test_each_function_is_in_a_script() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SCRIPTS.glob("*.lua"))
    words = set(re.findall(r"[\w]+", text))
    missing = [
        each.name
        for each in entries()
        if each.state in {"must", "should"} and re.split(r"[.:]", each.name)[-1] not in words
    ]
    assert missing == []
