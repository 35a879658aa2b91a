"""Sessions and policy clients in memory: everything is real but the sockets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import trio
import trio.testing
import trio_websocket
from policy_schema import SCHEMA

from triosmtp.policy.interface import Phase
from triosmtp.policy_client import Notification, PolicyClient
from triosmtp.policy_service.hub import ClientAccess, Hub
from triosmtp.policy_service.json_rpc import PROTOCOL
from triosmtp.policy_service.question import Question
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
"""Messages of the server must match it."""
CONFIGURATION = """
Relay_Domains = ( "example.com" )
Policy = ( "websocket:fraud" )
%s
ESMTP_Listener { Listen ":25" { } }
"""
BODY = b"Subject: x\r\n\r\nhello\r\n"
LOCAL = ClientAccess(listener="policy", peer="unix", local=True, admin_token="a" * 16)


class Raw:
    """A policy client that says exactly what a test tells it to."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def send(self, **message: object) -> None:
        await self.socket.send_message(json.dumps({"jsonrpc": "2.0", **message}))

    async def text(self, text: str) -> None:
        await self.socket.send_message(text)

    async def read(self) -> dict[str, Any]:
        value = json.loads(await self.socket.get_message())
        assert isinstance(value, dict)
        VALIDATOR.validate(value)
        return value

    async def initialize(self, **params: object) -> dict[str, Any]:
        wanted: dict[str, object] = {"name": "raw", "notifications": [], **params}
        await self.send(id=1, method="initialize", params=wanted)
        return await self.read()

    async def decider(self, *phases: str, **params: object) -> dict[str, Any]:
        return await self.initialize(group="fraud", role="decider", phases=list(phases), **params)

    async def answer(self, question: dict[str, Any], **result: object) -> None:
        await self.send(id=question["id"], result=result)

    async def ended(self) -> int:
        """Read to the end; return the code that the server closed with."""
        try:
            while True:
                await self.socket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            return -1 if closed.reason is None else int(closed.reason.code)


class Stage:
    def __init__(self, server: MemoryServer, nursery: trio.Nursery) -> None:
        self.server = server
        self.hub: Hub = server.service.hub
        self.nursery = nursery

    def _pair(self, access: ClientAccess) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.hub.serve_client, theirs, access)
        return ours

    async def attach(self, client: PolicyClient, access: ClientAccess = LOCAL) -> trio.CancelScope:
        """Connect a client of the library; return what ends it at once."""
        scope, begun = trio.CancelScope(), trio.Event()

        async def run() -> None:
            with scope:
                await client.run_on(self._pair(access), on_connected=begun.set)

        self.nursery.start_soon(run)
        await begun.wait()
        return scope

    async def status(self, access: ClientAccess, **upgrade: Any) -> int:
        """Return the HTTP status that an upgrade is refused with."""
        try:
            async with trio.open_nursery() as nursery:
                await self.raw(access, nursery=nursery, **upgrade)
                nursery.cancel_scope.cancel()
        except* trio_websocket.ConnectionRejected as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, trio_websocket.ConnectionRejected)
            status: int = error.status_code
        else:
            status = 101
        return status

    async def raw(
        self, access: ClientAccess = LOCAL, *, token: str = "", nursery: trio.Nursery | None = None, **upgrade: Any
    ) -> Raw:
        headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
        socket = await trio_websocket.wrap_client_stream(
            nursery or self.nursery,
            self._pair(access),  # type: ignore[arg-type]  # any stream will do
            "localhost",
            upgrade.get("path", "/"),
            subprotocols=upgrade.get("subprotocols", [PROTOCOL]),
            extra_headers=[*headers, *upgrade.get("headers", [])],
        )
        return Raw(socket)

    async def hello(self, **where: str) -> ScriptedClient:
        client = self.server.connect(**where)
        assert (await client.read()).code == 220
        assert (await client.command("EHLO client.example.org")).code == 250
        return client


@asynccontextmanager
async def open_stage(options: str = "", configuration: str = CONFIGURATION) -> AsyncIterator[Stage]:
    text = configuration % options if "%s" in configuration else configuration
    async with open_memory_server(text) as server, trio.open_nursery() as nursery:
        yield Stage(server, nursery)
        nursery.cancel_scope.cancel()


def decider(name: str = "bar", **more: Any) -> PolicyClient:
    """Return a decider of the group that CONFIGURATION names; `more` goes to its client."""
    return PolicyClient("unix:/memory", name=name, group="fraud", **more)


async def mail(client: ScriptedClient, sender: str = "a@example.org") -> str:
    """Send one message; return the reply."""
    return str(await client.message(sender, ["you@example.com"], BODY))


async def watch(stage: Stage, *patterns: str, **more: Any) -> list[Notification]:
    """Attach an observer; return the list that its notifications go to."""
    notes: list[Notification] = []
    client = PolicyClient("unix:/memory", name="watcher", **more)

    @client.notification(*patterns)
    async def note(each: Notification) -> None:
        notes.append(each)

    await stage.attach(client)
    return notes


def question(number: int = 1, phase: Phase = "mailfrom") -> Question:
    """Return a question of the session "s"."""
    return Question(
        id=f"s-{number}", session="s", phase=phase, peer="192.0.2.7:1", listener=":25", variables={},
        message_variables={}, arguments={},
    )  # fmt: skip
