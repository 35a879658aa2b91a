"""Warnings about scopes that an embedded server does not serve."""

import logging
from functools import partial

import pytest
import trio

import triosmtp
from triosmtp import Message, Server, parse_config

MAIL = 'ESMTP_Listener {\n  Listen "127.0.0.1:0" { }\n}\n'
UNSERVED = {
    'Log "mainlog" { Path = "/nowhere/log" }\n': 't.conf:4:5: warning: Log "mainlog" is not written: the program',
    'Status_Listener {\n  Listen "127.0.0.1:0" { }\n}\n': 't.conf:5:10: warning: Status_Listener: Listen "127.0.0.1:0"',
    'Control_Listener {\n  Listen "/nowhere/control" { }\n}\n': 't.conf:5:10: warning: Control_Listener: Listen "/now',
    'Security {\n  User = "nobody"\n}\n': "t.conf:4:1: warning: Security has no effect: the program",
    "Workers = 4\n": "t.conf:4:11: warning: Workers: is not served: all sessions run in this process",
    "Workers = auto\n": "t.conf:4:11: warning: Workers: is not served",
}


async def drop(_message: Message) -> None:
    return None


@pytest.mark.parametrize("more", UNSERVED)
async def test_it_is_a_warning_with_its_place_at_the_start_and_at_a_reload(
    more: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "triosmtp.server")

    def told() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name == "triosmtp.server"]
        caplog.clear()
        return found

    config = parse_config(MAIL + more, "t.conf")
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(triosmtp.serve, config, deliver=drop))
        (line,) = told()
        assert line.startswith(UNSERVED[more])
        assert "\n" not in line
        assert server.addresses  # the rest is served
        await server.reload(parse_config(MAIL, "t.conf"))
        assert told() == []
        await server.reload(config)
        (line,) = told()
        assert line.startswith(UNSERVED[more])
        nursery.cancel_scope.cancel()


async def test_a_configuration_without_these_is_served_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    config = parse_config(f"Workers = 1\n{MAIL}")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(triosmtp.serve, config, deliver=drop))
        nursery.cancel_scope.cancel()
    assert not caplog.records
