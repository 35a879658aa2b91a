"""The right of sending domains to relay."""

from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

PLAIN = """
Relay_Domains = ( "example.com" "*.example.net" )
Banner_Hostname = "mx.example.com"
ESMTP_Listener { Listen ":25" { %s } }
"""


def conf(options: str = "") -> str:
    return PLAIN % options


async def hello(server: MemoryServer, **where: str) -> ScriptedClient:
    client = server.connect(**where)
    assert (await client.read()).code == 220
    assert (await client.command("EHLO client.example.org")).code == 250
    return client


async def test_a_sending_domain_gives_no_right_to_the_next_sender() -> None:
    async with open_memory_server(conf('Relay_For_Sending_Domains = ( "example.org" )')) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 250
        assert (await client.message("a@example.edu", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 550
    assert server.messages[0].variables["can_relay"] == "true"
