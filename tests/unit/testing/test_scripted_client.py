"""A scripted client: replies of several lines, dot-stuffing, and the end of a connection."""

import pytest
import trio
import trio.testing

from triosmtp.testing import ScriptedClient


async def test_a_reply_is_read_to_its_last_line_however_it_is_split() -> None:
    near, far = trio.testing.memory_stream_pair()
    client = ScriptedClient(near)
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for octet in b"250-one\r\n250-two\r\n250 three\r\n220 next\r\n":
                await far.send_all(bytes([octet]))

        nursery.start_soon(send)
        answer = await client.read()
        assert (answer.code, answer.lines, str(answer)) == (250, ("one", "two", "three"), "250 one\ntwo\nthree")
        assert (await client.read()).code == 220
    await far.aclose()
    with pytest.raises(EOFError):
        await client.read()


async def test_a_message_is_dot_stuffed_and_ends_at_the_first_refusal() -> None:
    near, far = trio.testing.memory_stream_pair()
    client = ScriptedClient(near)
    await far.send_all(b"250 a\r\n250 b\r\n354 c\r\n250 d\r\n250 a\r\n550 no\r\n")
    assert (await client.message("a@example.org", ["b@example.com"], b".x\r\ny..\r\n.")).code == 250
    assert (await client.message("a@example.org", ["b@example.com"], b"never sent")).code == 550
    await client.aclose()
    sent = b"".join([bytes(chunk) async for chunk in far])
    head = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
    assert sent == head + b"DATA\r\n..x\r\ny..\r\n..\r\n.\r\n" + head
