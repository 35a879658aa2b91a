"""A configuration, and a client that has said EHLO, for the memory server."""

from triosmtp.testing import MemoryServer, ScriptedClient

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
