"""A next hop whose every answer a test can choose, on a Unix socket, and a NextHop that delivers to it."""

import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import trio
import trio.testing
from attrs import define, evolve, field

from triosmtp.delivery import TargetContext, TargetHealth
from triosmtp.message import Envelope, Message, Origin, Recipient
from triosmtp.message.spool import Body
from triosmtp.next_hop import HopAddress, HopSettings, NextHop
from triosmtp.smtp import Address

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000", "ENHANCEDSTATUSCODES")
CLOSE = "close"
"""In the place of a reply: the hop closes the connection."""
SILENCE = "silence"
"""In the place of a reply: there is none, ever."""


@define
class Accepted:
    """A message that the hop received."""

    sender: str
    recipients: list[str]
    data: bytes


@define(eq=False)
class ScriptedHop:
    """A server of SMTP or LMTP.

    ``answers`` has replies by verb, by verb and address (``RCPT a@example.org``), ``banner``, ``end`` (of the data) and
    ``end ADDRESS``; ``body`` can only be CLOSE, after 354.  A list is used from its front, one reply each time, and its
    last one stays.
    """

    answers: dict[str, Any] = field(factory=dict)
    extensions: Iterable[str] = EXTENSIONS
    lmtp: bool = False
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    sessions: list[list[str]] = field(factory=list)
    """The commands of each connection."""
    messages: list[Accepted] = field(factory=list)
    streams: list[Any] = field(factory=list)
    """The stream of each connection."""
    open: int = 0
    most_open: int = 0
    before: Callable[[str], Any] | None = None
    """An async function that is called with each command before it is answered."""

    async def serve(self, transport: trio.SocketStream) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await _Session(self, transport).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(transport)

    @property
    def commands(self) -> list[str]:
        """The commands of all connections."""
        return [command for session in self.sessions for command in session]

    def answer(self, *keys: str) -> str | None:
        for key in keys:
            found = self.answers.get(key)
            if isinstance(found, list):
                return str(found.pop(0) if len(found) > 1 else found[0])
            if found is not None:
                return str(found)
        return None


class _Session:
    def __init__(self, hop: ScriptedHop, transport: trio.SocketStream) -> None:
        self.hop = hop
        self.stream: Any = transport
        self.received = b""
        self.sender = ""
        self.recipients: list[str] = []
        self.commands: list[str] = []
        hop.sessions.append(self.commands)
        hop.streams.append(transport)

    async def run(self) -> None:
        if self.hop.implicit_tls:
            await self._start_tls()
        banner = self.hop.answer("banner")
        await self._reply("220 hop.example ESMTP" if banner is None else banner)
        while True:
            line = (await self._line()).decode()
            self.commands.append(line)
            if self.hop.before is not None:
                await self.hop.before(line)
            verb = line.partition(" ")[0].upper()
            path = re.search("<(.*?)>", line)
            address = path[1] if path else ""
            found = self.hop.answer(f"{verb} {address}", verb)
            reply = self._default(verb) if found is None else found
            await self._reply(reply)
            if reply[:1] in {"2", "3"}:
                await self._apply(verb, line, address)

    async def _apply(self, verb: str, line: str, address: str) -> None:
        if verb == "QUIT":
            raise EOFError
        if verb in {"MAIL", "RSET", "EHLO", "LHLO"}:
            self.sender, self.recipients = address, []
        elif verb == "RCPT":
            self.recipients.append(address)
        elif verb == "STARTTLS":
            await self._start_tls()
        elif verb == "DATA":
            if self.hop.answer("body") == CLOSE:
                raise EOFError
            while b"\r\n.\r\n" not in b"\r\n" + self.received:
                await self._receive()
            data, _, rest = (b"\r\n" + self.received).partition(b"\r\n.\r\n")
            self.received = rest
            await self._end((data[2:] + b"\r\n").replace(b"\r\n..", b"\r\n.") if data else b"")
        elif verb == "BDAT":
            size = int(line.split()[1])
            while len(self.received) < size:
                await self._receive()
            data, self.received = self.received[:size], self.received[size:]
            await self._end(data)

    async def _end(self, data: bytes) -> None:
        replies = []
        for recipient in self.recipients if self.hop.lmtp else [""]:
            reply = self.hop.answer(f"end {recipient}", "end")
            replies.append("250 2.0.0 Ok: queued as 7F" if reply is None else reply)
        taken = [to for to, reply in zip(self.recipients, replies, strict=False) if reply[:1] == "2"]
        if taken if self.hop.lmtp else replies[0][:1] == "2":
            self.hop.messages.append(Accepted(self.sender, taken if self.hop.lmtp else self.recipients, data))
        for reply in replies:
            await self._reply(reply)

    def _default(self, verb: str) -> str:
        hello = "LHLO" if self.hop.lmtp else "EHLO"
        if verb == hello:
            extensions = list(self.hop.extensions)
            if self.hop.tls is not None and isinstance(self.stream, trio.SocketStream):
                extensions.append("STARTTLS")
            lines = ["hop.example", *extensions]
            return "\r\n".join(f"250{'-' if n < len(lines) else ' '}{line}" for n, line in enumerate(lines, 1))
        defaults = {
            "MAIL": "250 2.1.0 Ok", "RCPT": "250 2.1.5 Ok", "DATA": "354 Go", "RSET": "250 2.0.0 Ok", "QUIT": "221 Bye",
            "STARTTLS": "220 Go", "XFORWARD": "250 Ok", "XCLIENT": "220 hop.example ESMTP", "BDAT": "",
        }  # fmt: skip
        return defaults.get(verb, "502 5.5.1 What?") or "2"

    async def _reply(self, reply: str) -> None:
        if reply == CLOSE:
            raise EOFError
        if reply == SILENCE:
            await trio.sleep_forever()
        if reply != "2":  # of BDAT, which is answered at its end
            await self.stream.send_all(reply.encode("utf-8", "surrogateescape") + b"\r\n")

    async def _start_tls(self) -> None:
        if self.hop.tls is None:
            await trio.sleep_forever()
        self.stream = trio.SSLStream(self.stream, self.hop.tls, server_side=True, https_compatible=True)
        await self.stream.do_handshake()

    async def _line(self) -> bytes:
        while b"\r\n" not in self.received:
            await self._receive()
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    async def _receive(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        self.received += bytes(data)


def hop_settings(path: Path | str, *, lmtp: bool = False, **options: Any) -> HopSettings:
    """Return settings for a hop on a Unix socket."""
    options.setdefault("addresses", (HopAddress(path=str(path), lmtp=lmtp),))
    return HopSettings(name="hop", ehlo_hostname="mx.example.com", **options)


def next_hop(settings: HopSettings) -> tuple[NextHop, TargetHealth]:
    health = TargetHealth(settings.name)
    return NextHop(settings, TargetContext("mx.example.com", health)), health


@asynccontextmanager
async def listening(hop: ScriptedHop, path: Path) -> AsyncIterator[None]:
    """Serve ``hop`` on a Unix socket until the block ends."""
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, hop.serve, [trio.SocketListener(sock)])
            yield
            nursery.cancel_scope.cancel()
    path.unlink()  # noqa: ASYNC240


@asynccontextmanager
async def connected(folder: Path, hop: ScriptedHop, **options: Any) -> AsyncIterator[tuple[NextHop, TargetHealth]]:
    """Serve ``hop``, and yield a NextHop that delivers to it."""
    path = folder / "hop"
    async with listening(hop, path):
        delivery, health = next_hop(hop_settings(path, lmtp=hop.lmtp, **options))
        yield delivery, health
        await delivery.aclose()
        await trio.testing.wait_all_tasks_blocked(0.001)  # the hop reads QUIT


ORIGIN = Origin(
    session="S1", listen="25", peer="192.0.2.1:2525", address=ip_address("192.0.2.1"), name="client.example",
    helo="helo.example", extended=True, auth_user="",
)  # fmt: skip


def origin(address: str = "192.0.2.1", **changes: Any) -> Origin:
    return evolve(ORIGIN, address=ip_address(address), peer=f"{address}:2525", **changes)


def mailbox(text: str) -> Address:
    local_part, _, domain = text.rpartition("@")
    return Address(local_part, domain) if text else Address.NULL


def envelope(
    *recipients: str, sender: str = "a@example.org", parameters: Mapping[str, str | None] | None = None
) -> Envelope:
    return Envelope(mailbox(sender), dict(parameters or {}), [Recipient(mailbox(each), {}) for each in recipients])


def message(
    *recipients: str,
    sender: str = "a@example.org",
    parameters: Mapping[str, str | None] | None = None,
    trace: bytes = b"Received: x\r\n",
    body: bytes = b"Subject: x\r\n\r\ntext\r\n",
) -> Message:
    return Message(
        id="S1-1",
        envelope=envelope(*recipients, sender=sender, parameters=parameters),
        body=Body(body),
        received=datetime.now(UTC),
        trace=trace,
        origin=ORIGIN,
    )
