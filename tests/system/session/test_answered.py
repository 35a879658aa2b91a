"""A stored message is answered 250 although the session is ending: otherwise its sender sends it again."""

import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, field

import triosmtp
from triosmtp import Delivery, Message, Policy, Session
from triosmtp.event import MessageAccepted, ServerEvent
from triosmtp.server.service import RunningSession
from triosmtp.server.session import handlers
from triosmtp.smtp import Noop
from triosmtp.testing import Authority, ScriptedClient

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Max_Session_Time = 1800
ESMTP_Listener {{
  TLS_Certificate = "{folder}/server.pem" TLS_Key = "{folder}/server.key" TLS_Allow_Renegotiation = {renegotiation}
  SMTP_Extensions = ( "STARTTLS" "CHUNKING" ) Listen "127.0.0.1:0" {{ }}
}}
"""


@define(eq=False)
class SlowDisk(Delivery):
    """Stores in a thread, which a cancellation waits for, when the test allows it."""

    began: trio.Event = field(factory=trio.Event)
    may_end: threading.Event = field(factory=threading.Event)
    stored: list[str] = field(factory=list)

    async def deliver(self, message: Message) -> None:
        self.began.set()
        await trio.to_thread.run_sync(self._store, message.id)

    def _store(self, name: str) -> None:
        assert self.may_end.wait(30)
        self.stored.append(name)


@define(eq=False)
class Site:
    """A server on a socket, whose delivery waits."""

    server: triosmtp.Server
    nursery: trio.Nursery
    disk: SlowDisk
    events: list[ServerEvent]
    tls: ssl.SSLContext

    async def send_message(self, *, tls: bool, behind: bytes = b"") -> ScriptedClient:
        """Send a message up to its end; its delivery is then under way."""
        client = ScriptedClient(await trio.open_tcp_stream(*self.server.addresses["127.0.0.1:0"]))
        assert (await client.read()).code == 220
        await client.command("EHLO c.example.org")
        if tls:
            assert (await client.starttls(self.tls)).code == 220
            await client.command("EHLO c.example.org")
        await client.command("MAIL FROM:<a@example.org>")
        await client.command("RCPT TO:<b@example.com>")
        await client.send(b"BDAT 6 LAST\r\nx: y\r\n" + behind)
        await self.disk.began.wait()
        return client

    @property
    def session(self) -> RunningSession:
        """The only one."""
        [session] = self.server.service.running
        return session

    async def drain(self) -> None:
        """Let Drain_Timeout end at once."""
        self.nursery.start_soon(self.server.aclose, 0)
        await trio.testing.wait_all_tasks_blocked(0.01)

    async def cancel(self) -> None:
        """End without any more time, as after a second SIGTERM."""
        self.server._session_tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Close the session, as the console does, and have no time for that either."""
        self.session.close()
        self.session.expire()

    async def outlast(self) -> None:
        """Let Max_Session_Time end."""
        self.session.check_timeouts(trio.current_time() + 3600)
        self.session.close()


@asynccontextmanager
async def serving(folder: Path, *, renegotiation: str = "false", policy: Policy | None = None) -> AsyncIterator[Site]:
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    text = CONFIGURATION.format(folder=folder, renegotiation=renegotiation)
    events: list[ServerEvent] = []
    disk = SlowDisk()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            config = triosmtp.parse_config(text)
            server = await nursery.start(
                lambda *, task_status: triosmtp.serve(
                    config, deliver=disk, policy=policy, observers=(events.append,), task_status=task_status
                )
            )
            try:
                yield Site(server, nursery, disk, events, context)
            finally:
                disk.may_end.set()
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("renegotiation", ["false", "true"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("end", [Site.drain, Site.cancel, Site.close, Site.outlast])
async def test_a_stored_message_is_answered(
    tmp_path: Path, end: Callable[[Site], Awaitable[None]], tls: bool, renegotiation: str
) -> None:
    async with serving(tmp_path, renegotiation=renegotiation) as site:
        client = await site.send_message(tls=tls)
        await end(site)
        site.disk.may_end.set()
        assert ((await client.read()).code, len(site.disk.stored)) == (250, 1)
        assert (await client.read()).code == 421
        assert await client.read_eof() == b""
        assert [type(each) for each in site.events].count(MessageAccepted) == 1
        await client.aclose()


class Undecided(Policy):
    """Decides about one message of a connection, and never about the next."""

    async def validate_mailfrom(self, session: Session, sender: object, parameters: object) -> None:
        if session.variables.get("connection_message_count") == "1":
            await trio.sleep_forever()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_stored_message_is_answered_though_the_next_command_never_is(tmp_path: Path, tls: bool) -> None:
    """The reply to a message waits in the group of its successors, one of which is decided about."""
    async with serving(tmp_path, policy=Undecided()) as site:
        client = await site.send_message(tls=tls, behind=b"MAIL FROM:<a@example.org>\r\n")
        site.disk.may_end.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await site.drain()
        assert (await client.read()).code == 250
        assert (await client.read()).code == 421
        await client.aclose()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_stored_message_is_answered_though_the_session_fails(
    tmp_path: Path, tls: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with serving(tmp_path) as site:
        client = await site.send_message(tls=tls, behind=b"NOOP\r\n")
        monkeypatch.setitem(handlers.HANDLERS, Noop, fail)
        site.disk.may_end.set()
        assert (await client.read()).code == 250
        assert (await client.read()).code == 421
        assert await client.read_eof() == b""
        await client.aclose()
    assert "a bug" in caplog.text
