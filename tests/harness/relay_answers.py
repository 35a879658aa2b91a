"""The answers to RCPT of clients that may relay or not."""

from collections.abc import Sequence

from tls_stanza import Material, secured

from triosmtp.testing import open_memory_server

OUT = "x@elsewhere.example"
BODY = b"x: y\r\n\r\n"
CONF = 'Banner_Hostname = "mx.example.com" ESMTP_Listener {{ Listen ":25" {{ {} }} }}'
OUTSIDER, TRUSTED = "203.0.113.9", "192.0.2.1"


async def codes(options: str, recipients: Sequence[str], *, peer: str = OUTSIDER, utf8: bool = False) -> list[int]:
    async with open_memory_server(CONF.format(options)) as server:
        client = server.connect(peer=peer)
        await client.read()
        await client.command("EHLO x")
        await client.command(f"MAIL FROM:<a@example.net>{' SMTPUTF8' if utf8 else ''}")
        return [(await client.command(f"RCPT TO:{each}")).code for each in recipients]


async def answers(material: Material, more: str, *names: str | None, **changes: str) -> list[int]:
    """Return the answer that each client gets to a message for elsewhere."""
    codes = []
    async with open_memory_server(material.conf(more, **changes)) as server:
        for name in names:
            client = await secured(server, material.client(name))
            await client.command("EHLO c.example.org")
            codes.append((await client.message("a@example.org", [OUT], BODY)).code)
    return codes
