"""sys.exit() in a policy or a delivery fails only that message: the client gets 451, and the log has a line."""

import logging
import sys

import pytest
import trio

from triosmtp import Address, Delivery, FunctionDelivery, Message, Policy, Session
from triosmtp.testing import open_memory_server

CONF = 'Relay_Domains = ( "example.com" ) ESMTP_Listener { Listen "127.0.0.1:0" { } }'
COMMANDS = ("EHLO client.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA", "body\r\n.")


class Exiting(Policy):
    async def validate_mailfrom(self, _session: Session, _sender: Address | None, _parameters: object) -> None:
        sys.exit("policy ends")


class ExitingInNursery(Policy):
    async def validate_data_spool(self, _session: Session, _message: Message) -> None:
        async def leave() -> None:
            sys.exit("policy ends")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            nursery.start_soon(trio.sleep_forever)


async def leave(_message: Message) -> None:
    sys.exit("delivery ends")


class ExitingDelivery(Delivery):
    async def deliver(self, message: Message) -> None:
        await leave(message)


@pytest.mark.parametrize(
    ("policy", "deliver", "refused"),
    [
        (Exiting(), None, "MAIL FROM:<a@example.org>"),
        (ExitingInNursery(), None, "body\r\n."),
        (None, FunctionDelivery(leave), "body\r\n."),
        (None, ExitingDelivery(), "body\r\n."),
    ],
    ids=["policy", "nursery", "function", "delivery"],
)
async def test_an_exit_is_451_and_a_log_line(
    policy: Policy | None, deliver: Delivery | None, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "triosmtp"):
        async with open_memory_server(CONF, policy=policy, deliver=deliver) as server:
            client = server.connect()
            await client.read()
            for command in COMMANDS:
                reply = await client.command(command)
                assert (reply.code == 451) is (command == refused), reply
                if command == refused:
                    break
            assert (await client.command("NOOP")).code == 250
            other = server.connect()
            assert (await other.read()).code == 220
    assert "SystemExit" in caplog.text
