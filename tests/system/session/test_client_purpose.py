"""TLS_Client_Purpose in a server: rights, scopes, reloads, and the log lines for clients that it admits."""

import io
from ipaddress import ip_address

import pytest
from tls_stanza import Material, secured

from triosmtp import parse_config
from triosmtp.event import ServerCertificatePresented, ServerEvent, TLSEstablished
from triosmtp.logs.event_log import EventLog
from triosmtp.server.tls_contexts import tls_settings
from triosmtp.testing import MemoryServer, RecordingPolicy, open_memory_server

WIDE = "TLS_Client_Purpose = client-or-server"
RELAY = 'TLS_Verified_Peer_Can_Relay = true TLS_Relay_Clients = ( "dns:mx.partner.example" )'
OUT = "x@elsewhere.example"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    made = Material(tmp_path_factory.mktemp("certificates"))
    made.clients.issue("mx.partner.example", dns=["mx.partner.example"], usage=["server"]).write(made.folder, "mx")
    return made


async def relayed(server: MemoryServer, material: Material, name: str = "mx") -> tuple[int, str]:
    """Send a message to elsewhere; return the last answer's code, and the certificate's state as policy sees it."""
    client = await secured(server, material.client(name))
    await client.command("EHLO client.example.org")
    code = (await client.message("a@example.org", [OUT], b"x: y\r\n\r\n")).code
    [tls] = [event.tls for event in server.events if isinstance(event, TLSEstablished)]
    return code, tls.variables()["tls_client_verified"]


@pytest.mark.parametrize(("purpose", "expected"), [("", (550, "no")), (WIDE, (250, "yes"))])
async def test_a_mail_servers_certificate_relays_by_its_name(
    material: Material, purpose: str, expected: tuple[int, str]
) -> None:
    seen: list[str | None] = []

    class Look(RecordingPolicy):
        async def validate_starttls(self, session, tls):  # type: ignore[no-untyped-def]  # as in the base
            seen.append(session.variables.get("tls_client_eku"))

    async with open_memory_server(material.conf(f"{RELAY} {purpose}"), policy=Look()) as server:
        assert await relayed(server, material) == expected
        [event] = [event for event in server.events if isinstance(event, ServerCertificatePresented)]
    assert seen == ["server"]
    assert (event.session.listener, event.tls.verified) == (":25", expected == (250, "yes"))
    assert logged(event).endswith(
        f" server-certificate session={event.session.id} peer=192.0.2.1:1024 listener=:25 "
        f'verified={expected[1]} client="CN=mx.partner.example"\n'
    )


def logged(event: ServerEvent) -> str:
    log = io.StringIO()
    EventLog(log)(event)
    return log.getvalue()


@pytest.mark.parametrize("name", ["good", "expired", "foreign", None])
async def test_other_clients_cause_no_log_line(material: Material, name: str | None) -> None:
    async with open_memory_server(material.conf(WIDE)) as server:
        await secured(server, material.client(name))
        assert not [event for event in server.events if isinstance(event, ServerCertificatePresented)]


async def test_the_option_applies_in_its_scope(material: Material) -> None:
    peers = f'Peer "192.0.2.0/24" {{ {WIDE} }}'
    async with open_memory_server(material.conf(f"{RELAY} {peers}")) as server:
        assert await relayed(server, material) == (250, "yes")
    async with open_memory_server(material.conf(f"{RELAY} {peers.replace('192.0.2', '198.51.100')}")) as server:
        assert await relayed(server, material) == (550, "no")


@pytest.mark.parametrize("asks", [True, False])
def test_a_change_of_it_is_another_context_if_clients_are_asked(material: Material, asks: bool) -> None:
    more = "" if asks else 'Peer "192.0.2.0/24" { TLS_Verify_Mode = none }'
    found = []
    for purpose in ("", WIDE):
        config = parse_config(material.conf(f"{purpose} {more}"))
        [listen] = config.listens
        found.append(tls_settings(config.resolve(listen, None if asks else ip_address("192.0.2.1"))))
    assert (found[0] != found[1]) is asks
