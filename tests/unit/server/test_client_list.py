"""Lists of clients: certificates by fingerprint and by name."""

import pytest
from relay_answers import answers
from tls_facts import fingerprint, info
from tls_stanza import Material

from triosmtp import TLSInfo
from triosmtp.config import RelayClient
from triosmtp.server.client_list import ClientList


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("entry", "tls", "holds"),
    [
        ("dns:mx.partner.example", info("dns:mx.partner.example"), True),
        ("dns:mx.partner.example", info("dns:MX.Partner.Example"), True),
        ("dns:mx.partner.example", info("dns:mx.partner.example", verified=False), False),
        ("dns:mx.partner.example", info("email:mx.partner.example"), False),
        ("dns:mx.partner.example", info("uri:mx.partner.example"), False),
        ("dns:*.partner.example", info("dns:other.example", "dns:mx.partner.example"), True),
        ("dns:*.partner.example", info("dns:partner.example"), False),
        ("dns:*.partner.example", info("dns:evilpartner.example"), False),
        ("dns:*.partner.example", info(r"dns:evil.example\00.partner.example"), False),
        ("dns:*.partner.example", info(r"dns:evil.example\2Cx.partner.example"), False),
        ("dns:*.partner.example", info("dns:*.partner.example"), False),
        ("dns:*.partner.example", info("dns:"), False),
        ("email:ops@partner.example", info("email:ops@PARTNER.example"), True),
        ("email:ops@partner.example", info("email:OPS@partner.example"), False),
        ("email:ops@partner.example", info("email:ops@partner.example", verified=False), False),
        ("email:ops@partner.example", info("dns:ops@partner.example"), False),
        ("sha256:" + "aa" * 32, info(verified=False, code=18), True),
        ("sha256:" + "bb" * 32, info(), False),
        ("spki:" + "bb" * 32, info(verified=False, code=20), True),
        ("spki:" + "aa" * 32, info(), False),
        ("sha256:" + "aa" * 32, info(verified=False, code=23, revoked=True), False),
        ("spki:" + "bb" * 32, info(verified=False, code=23, revoked=True), False),
    ],
)  # fmt: skip
def test_an_entry_holds_for(entry: str, tls: TLSInfo, holds: bool) -> None:
    kind, _, value = entry.partition(":")
    assert ClientList.from_entries([RelayClient(kind, value)]).holds(tls) is holds  # type: ignore[arg-type]  # a kind as text


RELAY = "TLS_Verified_Peer_Can_Relay = true"


async def test_a_list_restricts_the_certificates_that_may_relay(material: Material) -> None:
    assert await answers(material, RELAY, "good") == [250]
    assert await answers(material, f'{RELAY} TLS_Relay_Clients = ( "dns:*.partner.example" )', "good") == [550]
    assert await answers(material, f'{RELAY} TLS_Relay_Clients = ( "dns:good.example" )', "good", "expired") == [
        250,
        550,
    ]


async def test_a_list_has_no_effect_without_the_boolean(material: Material) -> None:
    listed = f'TLS_Relay_Clients = ( "sha256:{fingerprint(material, "good")}" "dns:good.example" )'
    assert await answers(material, f"TLS_Verified_Peer_Can_Relay = false {listed}", "good") == [550]


@pytest.mark.parametrize("field", ["fingerprint_sha256", "spki_sha256"])
async def test_a_fingerprint_matches_a_certificate_that_does_not_verify(material: Material, field: str) -> None:
    kind = {"fingerprint_sha256": "sha256", "spki_sha256": "spki"}[field]
    listed = f'{RELAY} TLS_Relay_Clients = ( "{kind}:{fingerprint(material, "foreign", field)}" )'
    assert await answers(material, listed, "foreign", "good") == [250, 550]
