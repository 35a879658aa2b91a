"""A server that asks for passwords, and its events."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import define, field

import triosmtp
from triosmtp import Message, Policy
from triosmtp.event import AuthAttempted, ServerEvent
from triosmtp.testing import Authority

CONF = """
Banner_Hostname = "mx.example.com"
Auth_Failure_Delay = 0.001
Max_Auth_Failures = 0
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
{store}
AuthExternalParameters = [ map = "dns" ]
{more}
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "{auth}" ) }}
  Listen "127.0.0.2:0" {{ Use_SSL = true SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "{auth}" ) }}
}}
"""
FILES = """
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
AuthCramMD5Parameters = [ uri = "file://{folder}/passwords" ]
AuthDigestMD5Parameters = [ uri = "file://{folder}/passwords" realm = "example.com" ]
"""
EVERY = "AUTH EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN"
USER, PASSWORD = "joe", "correct horse"


@define
class Site:
    """Its address and its events."""

    folder: Path
    starttls: int
    implicit: int
    authority: Authority
    events: list[ServerEvent] = field(factory=list)
    messages: list[Message] = field(factory=list)

    @property
    def attempts(self) -> list[AuthAttempted]:
        return [event for event in self.events if isinstance(event, AuthAttempted)]

    def context(self, certificate: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if certificate:
            context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        return context


@asynccontextmanager
async def serving(
    folder: Path,
    more: str = "",
    auth: str = EVERY,
    stored: str = PASSWORD,
    store: str = FILES,
    policy: Policy | None = None,
) -> AsyncIterator[Site]:
    """Serve in this process, on STARTTLS and on TLS from the first byte; ``store`` are the options of passwords."""
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1", "127.0.0.2"]).write(folder, "server")
    authority.issue("client", dns=["client.example"], usage=["client"]).write(folder, "client")
    unknown = Authority.create("stranger")
    unknown.issue("client", dns=["client.example"], usage=["client"]).write(folder, "stranger")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    passwords = folder / "passwords"
    passwords.touch(0o600)
    passwords.write_text(f"# who may come\n{USER}:{stored}\nempty.domain:x y z\n")
    config = triosmtp.parse_config(CONF.format(folder=folder, store=store.format(folder=folder), more=more, auth=auth))
    events: list[ServerEvent] = []
    messages: list[Message] = []

    async def take(message: Message) -> None:
        messages.append(message)

    async with trio.open_nursery() as nursery:
        serve = partial(triosmtp.serve, config, policy=policy, deliver=take, observers=[events.append])
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("STATE_DIRECTORY", str(folder / "state"))
            server = await nursery.start(serve)
        places = server.addresses
        yield Site(folder, places["127.0.0.1:0"][1], places["127.0.0.2:0"][1], authority, events, messages)
        await server.aclose()
