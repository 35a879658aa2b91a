"""A policy changes the reply to EHLO; the extensions that it removes are refused."""

import pytest
from memory_dialogue import conf
from tls_stanza import Material

from triosmtp import Policy, Session
from triosmtp.testing import open_memory_server


class Changes(Policy):
    """Removes STARTTLS for one peer, changes more at EHLO, and does nothing after STARTTLS."""

    async def validate_connect(self, session: Session) -> None:
        session.add_capability("X-CONNECT 1")
        if str(session.peer_address) == "192.0.2.66":
            session.remove_capability("STARTTLS")

    async def validate_ehlo(self, session: Session, domain: str) -> None:
        if session.tls is None and domain == "changes.example":
            session.remove_capability("SIZE")
            session.add_capability("X-EHLO 1")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


async def test_one_peer_is_offered_no_starttls_and_cannot_use_it(material: Material) -> None:
    async with open_memory_server(material.conf(), policy=Changes()) as server:
        for peer, offered in (("192.0.2.66", False), ("192.0.2.1", True)):
            client = server.connect(peer=peer)
            await client.read()
            lines = (await client.command("EHLO client.example")).lines
            assert ("STARTTLS" in lines, "X-CONNECT 1" in lines) == (offered, True)
            assert (await client.command("STARTTLS")).code == (220 if offered else 502)


async def test_changes_at_ehlo_last_until_starttls(material: Material) -> None:
    async with open_memory_server(material.conf(), policy=Changes()) as server:
        client = server.connect()
        await client.read()
        for name in ("changes.example", "other.example"):
            lines = (await client.command(f"EHLO {name}")).lines
            assert "X-EHLO 1" in lines
            assert not any(line.startswith("SIZE") for line in lines)
        assert (await client.command("MAIL FROM:<a@example.org> SIZE=10")).code == 555
        await client.starttls(material.client("good"))
        lines = (await client.command("EHLO changes.example")).lines
        assert "X-CONNECT 1" in lines
        assert "X-EHLO 1" not in lines
        assert (await client.command("MAIL FROM:<a@example.org> SIZE=10")).code == 250


async def test_another_client_of_a_trusted_peer_begins_without_changes() -> None:
    options = 'SMTP_Extensions = ( "XCLIENT" "XREMOTEIP" )'
    peer = f'Peer "192.0.2.66" {{ {options} }}'

    class First(Policy):
        async def validate_connect(self, session: Session) -> None:
            if str(session.peer_address) == "192.0.2.66":
                session.remove_capability("SIZE")

    async with open_memory_server(conf(peer), policy=First()) as server:
        client = server.connect(peer="192.0.2.66")
        await client.read()
        assert not any(line.startswith("SIZE") for line in (await client.command("EHLO a.example")).lines)
        assert (await client.command("XCLIENT ADDR=192.0.2.7")).code == 220
        assert any(line.startswith("SIZE") for line in (await client.command("EHLO a.example")).lines)


async def test_a_malformed_change_is_an_error_of_the_policy() -> None:
    class Malformed(Policy):
        async def validate_ehlo(self, session: Session, domain: str) -> None:
            session.add_capability("X\r\n250 injected")

    async with open_memory_server(conf(), policy=Malformed()) as server:
        client = server.connect()
        await client.read()
        assert (await client.command("EHLO a.example")).code == 451
