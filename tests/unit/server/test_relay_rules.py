"""The right to relay: by certificate, and by the domain of a route."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from relay_answers import BODY, CONF, OUT, OUTSIDER, TRUSTED, answers, codes
from tls_facts import fingerprint
from tls_stanza import Material, secured

from triosmtp import TLSInfo
from triosmtp.config import parse_config
from triosmtp.server.relay_rules import RelayRules
from triosmtp.smtp import Address
from triosmtp.testing import RecordingPolicy, open_memory_server


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("tls", [None, TLSInfo(protocol="x", cipher="x", cipher_algbits=1, cipher_usebits=1)])
def test_a_client_without_a_certificate_may_not_relay(tls: TLSInfo | None) -> None:
    options = f'TLS_Verified_Peer_Can_Relay = true TLS_Relay_Clients = ( "sha256:{"aa" * 32}" )'
    config = parse_config(f'ESMTP_Listener {{ {options} Listen ":0" {{ }} }}')
    assert not RelayRules.from_settings(config.resolve(config.listens[0], None)).trusts_certificate(tls)


RELAY = "TLS_Verified_Peer_Can_Relay = true"


@pytest.mark.parametrize("mode", ["require", "optional"])
async def test_by_fingerprint_a_certificate_is_asked_for_without_any_authority(material: Material, mode: str) -> None:
    listed = f'{RELAY} TLS_Relay_Clients = ( "sha256:{fingerprint(material, "foreign")}" )'
    without = {f'TLS_Client_CA = "{material.folder}/clientca.bundle"': "", '"require"': f'"{mode}"'}
    assert await answers(material, listed, "foreign", "good", None, **without) == [250, 550, 550]


async def test_a_variable_grants_no_right(material: Material) -> None:
    class Liar(RecordingPolicy):
        async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # as in the base
            for key in ("tls_client_verified", "ccert_fingerprint", "tls_client_cert_sans"):
                with pytest.raises(KeyError):
                    session.variables[key] = "yes"

    listed = f'{RELAY} TLS_Relay_Clients = ( "dns:good.example" )'
    async with open_memory_server(material.conf(listed), policy=Liar()) as server:
        client = await secured(server, material.client("foreign"))
        await client.command("EHLO c.example.org")
        assert (await client.message("a@example.org", [OUT], BODY)).code == 550


async def test_a_revoked_certificate_is_out_of_its_list(tmp_path: Path) -> None:
    material = Material(tmp_path)
    leaf = x509.load_pem_x509_certificate((tmp_path / "good.pem").read_bytes())
    listed = f'{RELAY} TLS_Relay_Clients = ( "sha256:{fingerprint(material, "good")}" )'
    assert await answers(material, listed, "good") == [250]
    (tmp_path / "crl.pem").write_bytes(material.clients.revocation_list([leaf]).public_bytes(Encoding.PEM))
    revoking = f'{listed} TLS_Client_CRL = "{tmp_path}/crl.pem"'
    assert await answers(material, revoking, "good") == [550]


ROUTES = ("<user%evil.example@ours.example>", "<evil!user@ours.example>", '<"user@evil.example"@ours.example>',
          r'<"user\@evil.example"@ours.example>', '<"evil!user"@ours.example>', "<evil.example!user%x@ours.example>",
          "<user%evil.example>", "<@a.example,@b.example:user@ours.example>", "<%@ours.example>",
          "<user%@OURS.example>", '<"@evil.example:user"@ours.example>')  # fmt: skip


OURS = (
    'Relay_Domains = ( "ours.example" ) Domain_For_Unqualified_Recipient_Addresses = "ours.example" '
    "Max_Refused_Recipients = 0 "
)


async def test_strangers_name_no_route() -> None:
    plain = ["<user@ours.example>", "<user+tag=x.example@ours.example>", "<postmaster>", '<"a b"@ours.example>']
    assert await codes(OURS, [*ROUTES, *plain]) == [550] * len(ROUTES) + [250] * 4
    async with open_memory_server(CONF.format(OURS)) as server:
        client = server.connect(peer=OUTSIDER)
        await client.read()
        await client.command("MAIL FROM:<a@example.net>")
        reply = await client.command(f"RCPT TO:{ROUTES[0]}")
        assert str(reply) == "550 5.7.1 Recipient addresses with a route are not accepted"


@pytest.mark.parametrize(
    ("more", "peer"),
    [
        ("Allow_Untrusted_Routing = true", OUTSIDER),
        (f'Relay_Hosts = ( "{TRUSTED}" )', TRUSTED),
        (f'Peer "{TRUSTED}" {{ Open_Relay = true }}', TRUSTED),
        (f'Peer "{TRUSTED}" {{ Relay_For_Sending_Domains = ( "example.net" ) }}', TRUSTED),
    ],
)
async def test_a_client_that_may_relay_may_use_a_route(more: str, peer: str) -> None:
    assert await codes(OURS + more, ROUTES, peer=peer) == [250] * len(ROUTES)


async def test_a_route_gives_no_right_to_relay() -> None:
    far = ["<user%ours.example@far.example>", '<"user@ours.example"@far.example>', "<@ours.example:user@far.example>"]
    assert await codes(OURS + "Allow_Untrusted_Routing = true", far) == [550] * 3


async def test_a_route_to_ours_does_not_make_a_relay_of_a_sender() -> None:
    """The result for a sender's domain is not needed for local recipients, so no variable is set."""
    async with open_memory_server(CONF.format(OURS + 'Relay_For_Sending_Domains = ( "example.net" )')) as server:
        client = server.connect(peer=OUTSIDER)
        await client.read()
        await client.command("MAIL FROM:<a@example.net>")
        assert (await client.command(f"RCPT TO:{ROUTES[0]}")).code == 250
        assert (await client.command("DATA")).code == 354
        assert (await client.command("x: y\r\n.")).code == 250
    assert "can_relay" not in server.messages[0].variables


def test_the_rules_of_a_route_are_options() -> None:
    config = parse_config(CONF.format(OURS))
    rules = RelayRules.from_settings(config.resolve(config.listens[0], None))
    assert rules.is_barred_route(Address("a%b", "ours.example"), "<a%b@ours.example>")
    assert not rules.is_barred_route(Address("a", "ours.example"), "<a@ours.example>")
