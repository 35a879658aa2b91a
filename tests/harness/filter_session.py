"""A session and a configuration for tests of filters."""

from policyd_service import PolicydService

from triosmtp.testing import MemoryServer, ScriptedClient


def conf(service: PolicydService, more: str = "", scope: str = "") -> str:
    return f"""
        Relay_Domains = ( "example.com" )
        Policy = ( "filter:x" )
        {more}
        Filter "x" {{ Connect_To = "{service.address}" {scope} }}
        ESMTP_Listener {{ Listen ":25" {{ }} }}
    """


async def begun(server: MemoryServer) -> ScriptedClient:
    client = server.connect()
    await client.read()
    await client.command("EHLO client.example.org")
    return client
