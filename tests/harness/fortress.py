"""A server under attack, in this process and on real sockets: at the end nothing of the attack may be left."""

import gc
import logging
import os
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define

import triosmtp
from triosmtp import Delivery, Message, Server
from triosmtp.event import Connected, Disconnected, ServerEvent
from triosmtp.server.session_tasks import IDLE_TASK
from triosmtp.testing import Authority, ScriptedClient

JUDGE = bool(os.environ.get("TRIOSMTP_JUDGE"))
CONFIGURATION = """
Relay_Domains = ( "example.com" )
Banner_Hostname = "mx.example.com"
Spool_Directory = "{folder}/spool"
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "CHUNKING" )
{options}
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{ }}
  Listen "[::1]:0" {{ Use_SSL = true SMTP_Extensions = ( "ENHANCEDSTATUSCODES" ) }}
}}
"""


@define(eq=False)
class Fortress:
    """The server, what it told, and what clients need to speak to it."""

    server: Server
    client_tls: ssl.SSLContext
    events: list[ServerEvent]
    messages: list[bytes]
    """The bodies that were delivered."""
    spool: Path

    @property
    def ends(self) -> list[str]:
        """The reason of each session that ended."""
        return [event.reason for event in self.events if isinstance(event, Disconnected)]

    @property
    def sessions(self) -> list[str]:
        """The id of each session that began."""
        return [event.session.id for event in self.events if isinstance(event, Connected)]

    async def dial(self, *, use_ssl: bool = False) -> trio.SocketStream:
        """Connect, and say nothing."""
        address = self.server.addresses["[::1]:0" if use_ssl else "127.0.0.1:0"]
        assert not isinstance(address, str)
        return await trio.open_tcp_stream(*address)

    async def connect(self, *, tls: bool = False) -> ScriptedClient:
        """Connect a well-behaved client: banner, EHLO, and with `tls` STARTTLS and EHLO again."""
        client = ScriptedClient(await self.dial())
        assert (await client.read()).code == 220
        await client.command("EHLO client.example.org")
        if tls:
            assert (await client.starttls(self.client_tls)).code == 220
            await client.command("EHLO client.example.org")
        return client

    async def quiet(self) -> None:
        """Wait until no session is left."""
        with trio.fail_after(30):
            while self.server.statistics.sessions:
                await trio.testing.wait_all_tasks_blocked(0.001)

    async def serves_on(self) -> None:
        """Assert that an honest client can send mail, in plaintext and over TLS."""
        for tls in (False, True):
            client = await self.connect(tls=tls)
            assert (await client.message("me@example.org", ["you@example.com"], b"Subject: honest\r\n\r\n")).code == 250
            assert (await client.command("QUIT")).code == 221
            await client.aclose()


@asynccontextmanager
async def besieged(
    folder: Path, log: pytest.LogCaptureFixture, options: str = "", *, deliver: Delivery | None = None, errors: str = ""
) -> AsyncIterator[Fortress]:
    """Serve; then an honest client must be served, and no session, task, descriptor, file or traceback be left.

    `errors` is a pattern of what may stand in the log, and must.
    """
    log.set_level(logging.WARNING)
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    config = triosmtp.parse_config(CONFIGURATION.format(folder=folder, options=options))
    events: list[ServerEvent] = []
    messages: list[bytes] = []

    async def collect(message: Message) -> None:
        with message.body.open() as reader:
            messages.append(reader.read())

    with trio.fail_after(1200 if JUDGE else 120):  # a server that does not end must not delay the tests
        async with trio.open_nursery() as nursery:
            serve = partial(triosmtp.serve, config, deliver=deliver or collect, observers=[events.append])
            server: Server = await nursery.start(serve)
            context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
            fortress = Fortress(server, context, events, messages, folder / "spool")
            await fortress.serves_on()  # makes what is made once: threads, folders, caches
            await fortress.quiet()
            messages.clear()
            events.clear()
            before = open_descriptors(), tasks_of(nursery)
            yield fortress
            await fortress.quiet()
            await fortress.serves_on()
            await fortress.quiet()
            after = open_descriptors()
            assert after == before[0], (after, before[0])
            assert tasks_of(nursery) == before[1]
            assert list(fortress.spool.glob("*")) == []
            assert len(set(fortress.sessions)) == len(fortress.sessions)
            logged = [r.getMessage() for r in log.records if r.levelno >= logging.ERROR or r.exc_info]
            assert [line for line in logged if not (errors and re.search(errors, line))] == []
            assert bool(logged) == bool(errors)
            assert "failed" not in fortress.ends
            nursery.cancel_scope.cancel()


def open_descriptors() -> Counter[str]:
    """Return how many descriptors this process has of each kind: a watch that is opened again has other numbers."""
    gc.collect()
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists
            found[re.sub(r":\[\d+\]", "", str(link.readlink()))] += 1
    return found


def tasks_of(nursery: trio.Nursery) -> list[str]:
    """Return the names of all tasks below `nursery`, without those that wait for a session: they are bounded."""
    names = []
    for task in nursery.child_tasks:
        if task.name != IDLE_TASK:
            names.append(task.name)
        for below in task.child_nurseries:
            names += tasks_of(below)
    return sorted(names)


def reset(stream: trio.SocketStream) -> None:
    """Close with a TCP reset: no goodbye, what is under way is lost."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()
