"""A server with policy scripts, and its clients: plaintext, and TLS without, with a bad and with a good certificate."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from tls_peers import folder as tls_folder
from tls_peers import foreign_root, root, server_credential

from triosmtp.config import load_config
from triosmtp.policy import Policy
from triosmtp.testing.memory_server import MemoryServer, open_memory_server
from triosmtp.testing.scripted_client import ScriptedClient

MOMENTUM: Final = Path(__file__).parents[1] / "system" / "lua" / "momentum"
"""The scripts of the acceptance tests."""
CLIENTS: Final = ("plaintext", "none", "bad", "good")


@cache
def server_files() -> tuple[Path, Path, Path]:
    """Write the server's certificate, its key and the authority of its clients."""
    folder = tls_folder() / "lua"
    folder.mkdir(exist_ok=True)
    certificate, key = server_credential().write(folder, "server")
    authority = folder / "clients.pem"
    authority.write_bytes(root().certificate_pem)
    return certificate, key, authority


@cache
def client_context(kind: str, name: str = "MX12.partner.example") -> ssl.SSLContext:
    """Return the context of a client with no certificate, one of another authority, or a good one for ``name``."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=root().certificate_pem.decode())
    if kind != "none":
        authority = root() if kind == "good" else foreign_root()
        credential = authority.issue(name, dns=[name.lower()], usage=["client"])
        folder = tls_folder() / f"{kind}-{name}"
        folder.mkdir(exist_ok=True)
        context.load_cert_chain(*credential.write(folder, "client"))
    return context


def configuration(scripts: dict[str, str], more: str = "", listen: str = "", peers: str = "") -> str:
    """Return a configuration with these scripts: their names and sources."""
    certificate, key, authority = server_files()
    stanzas = "\n".join(f'  script "{name}" {{ source = "{source}" }}' for name, source in scripts.items())
    return f"""
alerting {{}}
scriptlet "scriptlet" {{
{stanzas}
}}
Relay_Domains = ( "example.net" "*.example.net" )
Banner_Hostname = "mx.example.net"
{more}
ESMTP_Listener {{
  Listen "127.0.0.1:2525" {{
    TLS_Certificate = "{certificate}"
    TLS_Key = "{key}"
    TLS_Client_CA = "{authority}"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
    {listen}
    {peers}
  }}
}}
"""


@asynccontextmanager
async def scripted_server(
    folder: Path, scripts: dict[str, str], *, policy: Policy | None = None, **texts: Any
) -> AsyncIterator[MemoryServer]:
    """Serve with scripts: the text of each by its name, or the path of a file.  They are in ``folder``."""
    sources = {}
    for name, script in scripts.items():
        if script.startswith("/"):
            sources[name] = script
        else:
            (folder / f"{name}.lua").write_text(script)
            sources[name] = name
    path = folder / "ecelerity.conf"
    path.write_text(configuration(sources, **texts))
    async with open_memory_server(load_config(path), policy=policy) as server:
        yield server


async def greeted(
    server: MemoryServer, kind: str = "plaintext", *, peer: str = "192.0.2.1", name: str = "MX12.partner.example"
) -> ScriptedClient:
    """Return a client of one of the kinds, after EHLO."""
    client = server.connect(peer=peer)
    answer = await client.read()
    assert answer.code == 220, answer
    answer = await client.command("EHLO client.example.org")
    assert answer.code == 250, answer
    if kind != "plaintext":
        answer = await client.starttls(client_context(kind, name))
        assert answer.code == 220, answer
        answer = await client.command("EHLO client.example.org")
        assert answer.code == 250, answer
    return client
