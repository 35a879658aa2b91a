"""The memory server: its peers and Listens, what it collects, and its end."""

import pytest
import trio

from triosmtp import ConfigError, Message
from triosmtp.event import Connected, Disconnected
from triosmtp.testing import open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
ESMTP_Listener {
  Listen ":25" { Static_Banner = "220 first" Peer "2001:db8::/32" { Static_Banner = "220 v6" } }
  Listen ":26" { Static_Banner = "220 second" }
}
"""
BODY = b"Subject: x\r\n\r\n.hidden\r\n"


@pytest.mark.parametrize(
    ("peer", "listen", "banner", "text"),
    [
        ("192.0.2.1", None, "220 first", "192.0.2.1:1024"),
        ("192.0.2.1", ":26", "220 second", "192.0.2.1:1024"),
        ("2001:db8::7", ":25", "220 v6", "[2001:db8::7]:1024"),
    ],
)
async def test_a_client_connects_from_its_address_to_its_listen(
    peer: str, listen: str | None, banner: str, text: str
) -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer=peer, listen=listen)
        assert str(await client.read()) == banner
        [connected] = [each for each in server.events if isinstance(each, Connected)]
        assert (connected.session.peer, connected.session.listener) == (text, listen or ":25")


async def test_a_delivered_message_is_collected_as_it_was_sent() -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example")
        assert (await client.message("", ["a@example.com", "b@example.com"], BODY)).code == 250
        [message] = server.messages
        assert (message.sender, message.recipients) == ("", ("a@example.com", "b@example.com"))
        assert message.body == BODY
        assert message.trace.startswith(b"Received: from c.example")
        assert message.variables["ehlo_domain"] == "c.example"


async def test_a_delivery_of_the_test_replaces_the_collection() -> None:
    seen: list[str] = []

    async def deliver(message: Message) -> None:
        seen.append(str(message.envelope.sender))

    async with open_memory_server(CONF, deliver=deliver) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example")
        await client.message("x@example.org", ["a@example.com"], BODY)
        assert (seen, server.messages) == (["x@example.org"], [])


async def test_sessions_end_with_the_block() -> None:
    with trio.fail_after(10):
        async with open_memory_server(CONF) as server:
            client = server.connect()
            await client.read()
        assert len(server.service.running) == 0
        assert [each.reason for each in server.events if isinstance(each, Disconnected)] == ["cancelled"]


async def test_an_unusable_configuration_is_an_error_before_the_block_begins() -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        async with open_memory_server(f"Nonsense = 1 {CONF}"):
            pytest.fail("the block began")
