"""A session and a configuration for tests of filters."""

from typing import Protocol

from triosmtp.testing import MemoryServer, ScriptedClient


class Addressed(Protocol):
    """A filter of the tests."""

    @property
    def address(self) -> str:
        """The address as Policy has it."""


def conf(service: Addressed, more: str = "", scope: str = "") -> str:
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
