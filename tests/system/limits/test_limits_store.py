"""Two servers and a service with workers share a Redis: what is limited on one of them is limited on all."""

import base64
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from redis_server import RedisServer, running_redis

import triosmtp
from triosmtp.event import LimitsStoreChanged, ServerEvent
from triosmtp.server.server import Server
from triosmtp.testing import Authority

CONF = """
Node_Name = "{node}"
Limits_Store = "{store}"
Limits_Store_Timeout = 20
Relay_Domains = ( "example.com" )
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ {options} }} }}
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


async def discard(_message: triosmtp.Message) -> None:
    """Take a message."""


@asynccontextmanager
async def fleet(redis: RedisServer, options: str, events: list[ServerEvent] | None = None) -> AsyncIterator[list[int]]:
    """Run two servers; yield their ports."""
    servers: list[Server] = []
    async with trio.open_nursery() as nursery:
        for number in range(2):
            config = triosmtp.parse_config(CONF.format(node=f"mx{number}", store=redis.url, options=options))
            observers = () if events is None else (events.append,)
            servers.append(await nursery.start(partial(triosmtp.serve, config, deliver=discard, observers=observers)))
        yield [next(iter(server.addresses.values()))[1] for server in servers]
        for server in servers:
            await server.aclose()


def banner(port: int) -> int:
    with smtplib.SMTP(timeout=30) as client:
        return client.connect("127.0.0.1", port)[0]


def mail(port: int) -> int:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        return client.docmd("MAIL FROM:<a@example.org>")[0]


def recipient(port: int) -> int:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        client.docmd("MAIL FROM:<a@example.org>")
        return client.docmd("RCPT TO:<you@example.com>")[0]


def starttls(port: int) -> int:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            return client.starttls(context=context)[0]
        except smtplib.SMTPResponseException as error:
            return error.smtp_code


def login(port: int, password: str) -> int:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        return client.docmd("AUTH", f"PLAIN {base64.b64encode(f'{chr(0)}joe{chr(0)}{password}'.encode()).decode()}")[0]


LIMITS: list[tuple[str, Callable[[int], int], int, int]] = [
    ('Connection_Rate_Per_Peer = "3/600"', banner, 220, 421),
    ('Inbound_Throttle_Messages = "3/600"', mail, 250, 450),
    ('Recipient_Rate_Per_Peer = "3/600"', recipient, 250, 450),
    ('SMTP_Extensions = ( "STARTTLS" ) TLS_Handshakes_Per_Peer = "3/600"', starttls, 220, 454),
]


@pytest.mark.parametrize(("option", "attempt", "within", "beyond"), LIMITS, ids=[each[0].split()[0] for each in LIMITS])
async def test_a_limit_holds_over_all_nodes(
    redis: RedisServer, tmp_path: Path, option: str, attempt: Callable[[int], int], within: int, beyond: int
) -> None:
    Authority.create().issue("localhost").write(tmp_path, "server")
    tls = f'TLS_Certificate = "{tmp_path}/server.pem" TLS_Key = "{tmp_path}/server.key"'
    async with fleet(redis, f"{option} {tls}") as (one, two):
        replies = [await trio.to_thread.run_sync(attempt, port) for port in (one, two, one, two, one)]
    assert replies == [within] * 3 + [beyond] * 2


async def test_failures_of_auth_count_over_all_nodes_and_successes_do_not(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "passwords").touch(0o600)
    (tmp_path / "passwords").write_text("joe:right\n")
    options = (
        f'SMTP_Extensions = ( "AUTH PLAIN" ) Allow_Plaintext_Auth = true Auth_Failure_Delay = 0.001 '
        f'AuthPlainParameters = [ uri = "file://{tmp_path}/passwords" ] Auth_Failure_Rate_Per_Peer = "3/600"'
    )
    async with fleet(redis, options) as (one, two):

        async def attempts(password: str, *ports: int) -> list[int]:
            return [await trio.to_thread.run_sync(login, port, password) for port in ports]

        assert await attempts("right", one, two, one, two, one, two) == [235] * 6
        assert await attempts("wrong", one, two, one) == [535] * 3
        assert await attempts("right", one, two) == [454] * 2


async def test_without_the_store_each_node_counts_by_itself(redis: RedisServer) -> None:
    events: list[ServerEvent] = []
    async with fleet(redis, 'Inbound_Throttle_Messages = "2/600"', events) as (one, two):
        redis.kill()
        replies = [await trio.to_thread.run_sync(mail, port) for port in (one, one, one, two, two, two)]
    assert replies == [250, 250, 450] * 2
    changes = [event for event in events if isinstance(event, LimitsStoreChanged)]
    assert [event.available for event in changes] == [False] * 2, "one for each node"
    assert {event.store for event in changes} == {redis.url}
