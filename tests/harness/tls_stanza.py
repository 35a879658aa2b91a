"""A listener with TLS to test, and the certificates of its clients."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from triosmtp.testing import Authority, MemoryServer, ScriptedClient

STANZA = """
Relay_Domains = ( "example.com" )
ESMTP_Listener {
  Listen ":25" {
    TLS_Certificate = "{folder}/cert.pem"
    TLS_Key = "{folder}/cert.key"
    TLS_Client_CA = "{folder}/clientca.bundle"
    TLS_Ciphers = "DEFAULT"
    TLS_Verify_Mode = "require"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
    # more
  }
}
"""


class Material:
    """Certificates in a folder, and client contexts that present them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create()
        self.clients = Authority.create("client CA")
        self.authority.issue("localhost", dns=["localhost"]).write(folder, "cert")
        (folder / "clientca.bundle").write_bytes(self.clients.certificate_pem)
        self.clients.issue("good.example", dns=["good.example"]).write(folder, "good")
        past = datetime.now(UTC) - timedelta(days=1)
        self.clients.issue("expired.example", not_after=past).write(folder, "expired")
        Authority.create("foreign CA").issue("foreign.example").write(folder, "foreign")

    def conf(self, more: str = "", **changes: str) -> str:
        text = STANZA.replace("{folder}", str(self.folder)).replace("# more", more)
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


async def secured(server: MemoryServer, context: ssl.SSLContext, name: str = "localhost") -> ScriptedClient:
    client = server.connect()
    await client.read()
    await client.command("EHLO before.example.org")
    assert (await client.starttls(context, name)).code == 220
    return client
