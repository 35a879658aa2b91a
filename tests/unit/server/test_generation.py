"""A generation: which Listen a key finds, and when its deliveries are closed."""

import trio
import trio.testing

from triosmtp.config import TCPAddress, parse_config
from triosmtp.server.generation import Generation
from triosmtp.server.profile import Profiles

CONF = 'ESMTP_Listener { Listen "*:2525" { } Listen "127.0.0.1:2525" { } Listen "127.0.0.1:2526" { } }'


def make() -> Generation:
    config = parse_config(CONF)
    return Generation(config, Profiles(config, "mx.example.org"), ())


def test_a_key_finds_its_listen_or_the_wildcard_of_its_port() -> None:
    generation = make()
    for listen in generation.config.listens:
        assert generation.find_listen(listen.key) is listen
    wildcard = generation.config.listens[0]
    assert generation.find_listen(TCPAddress("192.0.2.9", 2525)) is wildcard
    assert generation.find_listen(TCPAddress("192.0.2.9", 2526)) is None
    assert generation.find_listen("/run/smtp") is None


async def test_it_is_closed_when_its_last_session_has_ended() -> None:
    generation = make()
    generation.sessions = 2
    closed = trio.Event()

    async def close() -> None:
        await generation.close_when_unused()
        closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            assert not closed.is_set()
            generation.release()
        await closed.wait()
    await make().close_when_unused()  # without sessions it does not wait
