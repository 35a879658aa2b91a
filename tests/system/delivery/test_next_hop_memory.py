"""Pass-through streams: memory does not grow with the number or the size of messages."""

import os
import resource
from pathlib import Path

import pytest
import trio
from listen_server import connect, serving

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
MESSAGES = 10_000


async def sink(stream: trio.SocketStream) -> None:
    """Speak LMTP, and keep nothing."""
    await stream.send_all(b"220 sink\r\n")
    rest = b""
    async for data in stream:
        received = rest + bytes(data)
        replies = b""
        *lines, rest = received.split(b"\r\n")
        for line in lines:
            if line == b"DATA":
                replies += b"354 Go\r\n"
            elif line == b"." or line.startswith((b"MAIL", b"RCPT", b"RSET")):
                replies += b"250 Ok\r\n"
            elif line.startswith(b"LHLO"):
                replies += b"250 sink\r\n"
        if replies:
            await stream.send_all(replies)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not JUDGE, reason="10,000 messages of 1 MB: at full size only")
async def test_many_large_messages_leave_memory_flat(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    conf = f"""
Relay_Domains = ( "example.com" )
Spool_Directory = "{tmp_path}/spool"
Deliver_To = "lmtp:{path}"
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ Max_Receptions_Per_Connection = 0 }} }}
"""
    body = b"Subject: x\r\n\r\n" + (b"x" * 98 + b"\r\n") * 10_000
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, sink, [trio.SocketListener(sock)])
            async with serving(conf, deliver=None) as server:
                client = await connect(server)
                await client.read()
                await client.command("EHLO client.example.org")
                for number in range(MESSAGES):
                    assert (await client.message("a@example.org", ["a@example.com"], body)).code == 250
                    if number == 200:
                        before = resident()
                grown = resident() - before
            nursery.cancel_scope.cancel()
    print(f"grown by {grown / 1024:.0f} KiB after {MESSAGES} messages of {len(body)} octets")
    assert grown < 8 << 20
