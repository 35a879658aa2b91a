"""Clients that do too much of one thing, over and over, until their time is over: `flood.py KIND PORT COUNT SECONDS`.

A process of its own, so that the cost of the attack does not count for the server.  At its end it prints
how often all clients started again.
"""

import base64
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

sys.path.insert(0, str(Path(__file__).parent))

from hostile_chain import hostile_chain

from triosmtp.testing import ScriptedClient

PIECE: Final = 65_536


def plain_context(chain: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if chain is not None:
        context.load_cert_chain(chain.with_suffix(".pem"), chain.with_suffix(".key"))
    return context


async def forever(client: ScriptedClient, data: bytes) -> None:
    """Send it again and again, and read what comes, until the server ends it."""
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with suppress(trio.BrokenResourceError):
                while await client.stream.receive_some(PIECE):
                    pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(read)
        with suppress(trio.BrokenResourceError):
            while True:
                await client.send(data)


async def begin(client: ScriptedClient, *lines: str) -> None:
    await client.read()
    for line in ("EHLO flood.example.org", *lines):
        await client.command(line)


async def chain(client: ScriptedClient, context: ssl.SSLContext) -> None:
    """Send a client certificate that is expensive to verify."""
    await begin(client)
    if (await client.command("STARTTLS")).code == 220:
        tls: trio.SSLStream[Any] = trio.SSLStream(client.stream, context, https_compatible=True)
        await tls.do_handshake()
        await ScriptedClient(tls).command("NOOP")  # its answer says that the chain was verified


async def auth(client: ScriptedClient) -> None:
    """Send a wrong password, and close before the reply."""
    await begin(client)
    wrong = base64.b64encode(b"\0joe\0wrong").decode()
    await client.send(f"AUTH PLAIN {wrong}\r\n".encode())


async def header(client: ScriptedClient) -> None:
    """Send a message that is all header: 48 MB of it."""
    await begin(client, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA")
    for _ in range(48):
        await client.send(b"a\r\n" * 349_525)
    await client.send(b"\r\n.\r\n")
    await client.read()


async def refusals(client: ScriptedClient) -> None:
    """Send DATA without end, after a refused MAIL."""
    await begin(client)
    await forever(client, b"MAIL FROM:<\r\n" + b"DATA\r\n" * 5000)


async def recipients(client: ScriptedClient) -> None:
    """Send recipients without end."""
    await begin(client, "MAIL FROM:<a@example.org>")
    await forever(client, b"RCPT TO:<b@example.com>\r\n" * 1000)


async def idle(client: ScriptedClient) -> None:
    """Send nothing at all."""
    await client.read_eof()


async def starttls(client: ScriptedClient) -> None:
    """Send STARTTLS, and then nothing."""
    await begin(client, "STARTTLS")
    await client.read_eof()


async def noop(client: ScriptedClient) -> None:
    """Send NOOP without end, if nobody counts."""
    await begin(client)
    await forever(client, b"NOOP\r\n" * 10_000)


async def chunks(client: ScriptedClient) -> None:
    """Send a message in chunks of an octet."""
    await begin(client, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
    await forever(client, b"BDAT 1\r\nx" * 5000)


async def line(client: ScriptedClient) -> None:
    """Send a command line without an end."""
    await begin(client)
    await forever(client, b"x" * PIECE)


async def body(client: ScriptedClient) -> None:
    """Send the beginning of a body, and then nothing."""
    await begin(client, "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA")
    await client.send(b"Subject: x\r\n\r\n" + b"x" * 700_000)
    await client.read_eof()


KINDS: Final[dict[str, Callable[[ScriptedClient], Awaitable[None]]]] = {
    function.__name__: function
    for function in (auth, header, refusals, recipients, idle, starttls, noop, chunks, line, body)
}
CHAINS: Final = {"chain of 94 KB": (8, 1010), "chain of 62 KB": (8, 650), "chain of 31 KB": (8, 310)}
ALL: Final = (*CHAINS, *KINDS)


async def loop(
    attack: Callable[[ScriptedClient], Awaitable[None]], port: int, arriving: trio.CapacityLimiter, done: list[int]
) -> None:
    """Connect and attack repeatedly; after any end of one attempt, the next one begins."""
    while True:
        done[0] += 1
        try:
            async with arriving:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with aclosing(ScriptedClient(stream)) as client:
                await attack(client)
        except (OSError, EOFError, ssl.SSLError, trio.BrokenResourceError, ValueError):
            await trio.sleep(0.01)  # the attacker's own pace if it is refused


async def main(kind: str, port: int, count: int, seconds: float) -> None:
    if kind in CHAINS:
        folder = Path(sys.argv[5])
        credential = hostile_chain(*CHAINS[kind])
        certificate, _ = credential.write(folder, "hostile")
        attack: Callable[[ScriptedClient], Awaitable[None]] = partial(chain, context=plain_context(Path(certificate)))
    else:
        attack = KINDS[kind]
    done = [0]
    print("begins", flush=True)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            arriving = trio.CapacityLimiter(100)
            for _ in range(count):
                nursery.start_soon(loop, attack, port, arriving, done)
    print(done[0])


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
