"""A real server under clients that never pause, and a way to wait for what it tells."""

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from attrs import Factory, define
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_der_x509_certificate
from layouts import Layout

import triosmtp
from triosmtp import Message, Server
from triosmtp.event import CertificateReloadFailed, CertificatesReloaded, ServerEvent
from triosmtp.testing import ScriptedClient
from triosmtp.tls import ContextStore
from triosmtp.x509.authority import Authority, Credential

JUDGE: Final = os.environ.get("TRIOSMTP_JUDGE") == "1"
E = TypeVar("E", bound=ServerEvent)

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Spool_Directory = "{folder}/spool"
SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
ESMTP_Listener {{ {listens} }}
"""
LISTEN = """
  Listen "{name}" {{ TLS_Certificate = "{certificate}"  TLS_Key = "{key}" {options} }}
"""


def scaled(full: int, small: int) -> int:
    """Return how often to repeat, and say how much less than in full that is."""
    if JUDGE:
        return full
    print(f"scaled down: {small} of {full}")
    return small


def issue(authority: Authority, **options: Any) -> Credential:
    return authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1"], usage=["server"], **options)


def fingerprint(credential: Credential) -> str:
    return credential.certificate.fingerprint(hashes.SHA256()).hex()


def inotify_descriptors() -> int:
    """Return how many inotify instances this process has."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of iterdir() itself
            links.append(str(path.readlink()))
    return links.count("anon_inode:inotify")


@define
class Told:
    """The events of the server, which can be waited for."""

    events: list[ServerEvent] = Factory(list)
    _more: trio.Event = Factory(trio.Event)

    def __call__(self, event: ServerEvent) -> None:
        self.events.append(event)
        self._more.set()
        self._more = trio.Event()

    async def wait(self, kind: type[E], fits: Callable[[E], bool] = lambda _: True, since: int = 0) -> E:
        """Wait for an event after the first `since`."""
        with trio.fail_after(30):
            while True:
                for event in self.events[since:]:
                    if isinstance(event, kind) and fits(event):
                        return event
                since = len(self.events)
                await self._more.wait()

    async def wait_for_set(self, credential: Credential) -> CertificatesReloaded:
        """Wait until a certificate is in force."""
        wanted = fingerprint(credential)
        return await self.wait(CertificatesReloaded, lambda event: event.fingerprint_sha256 == wanted)

    async def wait_for_failure(self, folder: Path, since: int) -> CertificateReloadFailed:
        """Wait for a failed reload of a file below `folder`."""
        return await self.wait(CertificateReloadFailed, lambda event: event.file.startswith(f"{folder}/"), since)


@define(eq=False)
class House:
    """The server, its authority and what it told."""

    server: Server
    authority: Authority
    told: Told
    folder: Path

    @property
    def store(self) -> ContextStore:
        return self.server.service.contexts

    def issue(self, **options: Any) -> Credential:
        return issue(self.authority, **options)

    def client_tls(self, version: ssl.TLSVersion | None = None, credential: Credential | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if credential is not None:
            context.load_cert_chain(*credential.write(self.folder, "client"))
        return context

    async def connect(self, listen: str, tls: ssl.SSLContext) -> ScriptedClient:
        """Connect up to the end of the handshake, which proves that the key belongs to the certificate."""
        address = self.server.addresses[listen]
        assert not isinstance(address, str)
        client = ScriptedClient(await trio.open_tcp_stream(*address))
        try:
            assert (await client.read()).code == 220
            assert (await client.command("EHLO client.example.org")).code == 250
            assert (await client.starttls(tls)).code == 220
        except BaseException:
            await client.aclose()
            raise
        return client

    async def served(self, listen: str, tls: ssl.SSLContext) -> str:
        """Connect, say goodbye, and return the fingerprint of the certificate that was shown."""
        client = await self.connect(listen, tls)
        assert isinstance(client.stream, trio.SSLStream)
        der = client.stream.getpeercert(binary_form=True)
        assert (await client.command("QUIT")).code == 221
        await client.aclose()
        return load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


async def drop(message: Message) -> None:
    return None


@asynccontextmanager
async def open_house(
    folder: Path,
    layouts: list[Layout],
    options: str = "",
    authority: Authority | None = None,
    first: Credential | None = None,
) -> AsyncIterator[House]:
    """Serve a Listen for each layout, `127.0.0.N:0`, each with a certificate of its own."""
    authority = authority or Authority.create()
    listens = ""
    for number, layout in enumerate(layouts, start=1):
        credential = first or issue(authority)
        await layout.put(credential.certificate_pem, credential.key_pem)
        listens += LISTEN.format(
            name=f"127.0.0.{number}:0", certificate=layout.certificate, key=layout.key, options=options
        )
    (folder / "spool").mkdir(exist_ok=True)
    config = triosmtp.parse_config(CONFIGURATION.format(folder=folder, listens=listens))
    told = Told()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=(told,)))
        yield House(server, authority, told, folder)
        nursery.cancel_scope.cancel()
