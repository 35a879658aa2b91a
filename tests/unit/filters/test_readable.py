import trio
import trio.testing

from triosmtp.filters.readable import is_readable


async def test_octets_and_the_end_of_a_stream_are_readable() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    here = await trio.testing.open_stream_to_socket_listener(listeners[0])
    there = await listeners[0].accept()
    async with here, there, listeners[0]:
        assert not is_readable(here)
        await there.send_all(b"x")
        await trio.lowlevel.wait_readable(here.socket)
        assert is_readable(here)
        assert await here.receive_some() == b"x"
        assert not is_readable(here)
        await there.aclose()
        await trio.lowlevel.wait_readable(here.socket)
        assert is_readable(here)
