"""TLS_Require_Verified, TLS_Require_Verified_From and Require_TLS_From: who may send at all."""

import base64
from pathlib import Path

import pytest
from attrs import evolve
from tls_facts import fingerprint, info
from tls_stanza import Material, secured

from triosmtp import DONE, ConfigError, Policy, Session
from triosmtp.config import parse_config
from triosmtp.errors import Severity
from triosmtp.event import Refused
from triosmtp.policy import Done
from triosmtp.server.relay_rules import RelayRules
from triosmtp.smtp import Address
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

OPTIONAL = 'TLS_Verify_Mode = "optional"'
VERIFIED = f"{OPTIONAL} TLS_Require_Verified = true"
PLAIN = "530 5.7.0 Must issue a STARTTLS command first"
TAKES = '; it takes a TLS_Certificate, and "STARTTLS" in SMTP_Extensions'
WORDS = "550 5.7.1 A client certificate that verifies is required: "


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


async def mail(client: ScriptedClient, sender: str = "a@example.org") -> str:
    await client.command("EHLO c.example.org")
    return str(await client.command(f"MAIL FROM:<{sender}>"))


async def plaintext(server: MemoryServer, sender: str = "a@example.org", peer: str = "192.0.2.1") -> str:
    client = server.connect(peer=peer)
    await client.read()
    return await mail(client, sender)


async def over_tls(server: MemoryServer, material: Material, name: str | None, *senders: str) -> list[str]:
    client = await secured(server, material.client(name))
    return [(await mail(client, sender))[:60] for sender in senders or ("a@example.org",)]


class Everything(Policy):
    """Ends every phase as accepted."""

    async def validate_mailfrom(self, session: Session, sender: Address, parameters: object) -> Done:
        session.variables["can_relay"] = "true"
        return DONE


@pytest.mark.parametrize("policy", [None, Everything()])
async def test_mail_without_a_verified_certificate_is_refused(material: Material, policy: Policy | None) -> None:
    async with open_memory_server(material.conf(VERIFIED), policy=policy) as server:
        for sender in ("a@example.org", ""):
            assert await plaintext(server, sender) == PLAIN
            for name, reason in (
                (None, "no certificate presented"),
                ("foreign", "unable to get local issuer certificate"),
                ("expired", "certificate has expired"),
            ):
                client = await secured(server, material.client(name))
                assert await mail(client, sender) == WORDS + reason
            assert await over_tls(server, material, "good", sender) == ["250 2.1.0 Sender ok"]
        refused = [event for event in server.events if isinstance(event, Refused)]
        assert {event.decided_by for event in refused} == {"TLS_Require_Verified"}


async def test_tls_require_verified_refuses_plaintext_and_foreign_certificates(material: Material) -> None:
    async with open_memory_server(material.conf("TLS_Require_Verified = true"), policy=Everything()) as server:
        assert await plaintext(server) == PLAIN
        assert (await over_tls(server, material, None))[0].startswith("550 5.7.1")
        assert (await over_tls(server, material, "foreign"))[0].startswith("550 5.7.1")
        assert await over_tls(server, material, "good") == ["250 2.1.0 Sender ok"]


async def test_auth_does_not_replace_a_certificate(material: Material, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("me:secret\n")
    options = f'{VERIFIED} AuthPlainParameters = [ uri = "file://{tmp_path}/users" ] Allow_Plaintext_Auth = true'
    conf = material.conf(options).replace('"STARTTLS"', '"STARTTLS" "AUTH PLAIN"')
    response = base64.b64encode(b"\0me\0secret").decode()
    async with open_memory_server(conf) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        assert (await client.command(f"AUTH PLAIN {response}")).code == 235
        assert str(await client.command("MAIL FROM:<a@example.org>")) == PLAIN
        client = await secured(server, material.client("foreign"))
        await client.command("EHLO c.example.org")
        assert (await client.command(f"AUTH PLAIN {response}")).code == 235
        assert str(await client.command("MAIL FROM:<a@example.org>")).startswith(WORDS)


async def test_a_peer_makes_exceptions(material: Material) -> None:
    more = f'{VERIFIED} Peer "10.0.0.0/8" {{ TLS_Require_Verified = false }}'
    async with open_memory_server(material.conf(more)) as server:
        assert await plaintext(server, peer="10.1.2.3") == "250 2.1.0 Sender ok"
        assert await plaintext(server, peer="11.1.2.3") == PLAIN


@pytest.mark.parametrize("kind", ["sha256", "spki"])
async def test_a_listed_fingerprint_counts_without_an_authority(material: Material, kind: str) -> None:
    field = "fingerprint_sha256" if kind == "sha256" else "spki_sha256"
    listed = fingerprint(material, "foreign", field)
    more = f'TLS_Require_Verified = true TLS_Relay_Clients = ( "{kind}:{listed}" )'
    conf = material.conf(more).replace("TLS_Client_CA", "# ").replace('TLS_Verify_Mode = "require"', "")
    assert not parse_config(conf).warnings
    async with open_memory_server(conf) as server:
        assert await over_tls(server, material, "foreign") == ["250 2.1.0 Sender ok"]
        assert (await over_tls(server, material, "good"))[0].startswith("550 5.7.1")
        assert (await over_tls(server, material, None))[0].startswith("550 5.7.1")
        client = await secured(server, material.client("foreign"))
        await mail(client)
        assert (await client.command("RCPT TO:<x@elsewhere.example>")).code == 550, "to send is not to relay"


async def test_a_listed_name_counts_only_if_it_verified(material: Material) -> None:
    more = f'{VERIFIED} TLS_Relay_Clients = ( "dns:foreign.example" )'
    async with open_memory_server(material.conf(more)) as server:
        assert (await over_tls(server, material, "foreign"))[0].startswith("550 5.7.1")
        assert await over_tls(server, material, "good") == ["250 2.1.0 Sender ok"]


async def test_the_client_of_a_trusted_peer_has_no_certificate(material: Material) -> None:
    conf = material.conf(VERIFIED).replace('"STARTTLS"', '"STARTTLS" "XCLIENT"')
    async with open_memory_server(conf) as server:
        client = await secured(server, material.client("good"))
        await client.command("EHLO c.example.org")
        assert (await client.command("XCLIENT ADDR=203.0.113.7")).code == 220
        assert await mail(client) == f"{WORDS}the peer speaks for another client"


def test_a_revoked_certificate_counts_by_no_fingerprint(material: Material) -> None:
    listed = f'TLS_Relay_Clients = ( "sha256:{"aa" * 32}" "spki:{"bb" * 32}" )'
    config = parse_config(material.conf(f"{VERIFIED} {listed}"))
    rules = RelayRules.from_settings(config.resolve(config.listens[0], None)).senders
    assert rules is not None
    assert rules.accepts(info(verified=False, code=18))
    assert not rules.accepts(info(verified=False, code=23, revoked=True))
    assert not rules.accepts(evolve(info(verified=False, code=18), client_certificate=None))
    assert not rules.accepts(None)


FORMS = ("a@bücher.example", "a@BÜCHER.example", "a@xn--bcher-kva.example", "a@XN--BCHER-KVA.Example")


@pytest.mark.parametrize("pattern", ["bücher.example", "xn--bcher-kva.example", "*.example", "*"])
async def test_the_senders_domain_is_compared_by_its_key(material: Material, pattern: str) -> None:
    for option, refusals in (
        ("Require_TLS_From", [PLAIN, "250 2.1.0 Sender ok", "250 2.1.0 Sender ok"]),
        ("TLS_Require_Verified_From", [PLAIN, f"{WORDS}no certificate presented", "250 2.1.0 Sender ok"]),
    ):
        conf = material.conf(f'{OPTIONAL} {option} = ( "{pattern}" )')
        async with open_memory_server(conf) as server:
            client = server.connect()
            await client.read()
            encrypted = [await secured(server, material.client(name)) for name in (None, "good")]
            for sender in FORMS:
                answers = []
                for each in (client, *encrypted):
                    await each.command("EHLO c.example.org")
                    answers.append(str(await each.command(f"MAIL FROM:<{sender}> SMTPUTF8")))
                assert answers == refusals, (option, sender)
            for sender in ("", "a@other.test" if pattern != "*" else ""):
                assert await mail(client, sender) == "250 2.1.0 Sender ok", "the null sender has no domain"
            told = {event.decided_by for event in server.events if isinstance(event, Refused)}
            assert told == {option}


def errors(conf: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(conf)
    return [problem.message for problem in caught.value.problems if problem.severity is Severity.ERROR]


def test_check_reports_a_requirement_that_no_client_can_meet(material: Material) -> None:
    conf = material.conf(VERIFIED)
    needs = "needs a TLS_Client_CA, or sha256: or spki: fingerprints in TLS_Relay_Clients"
    needs += ', and none is in force for Listen ":25"'
    without = conf.replace("TLS_Client_CA", "# ")
    assert errors(without) == [f"TLS_Require_Verified: {needs}"]
    assert errors(without.replace("TLS_Require_Verified = true", "TLS_Require_Verified_From = a.example")) == [
        f"TLS_Require_Verified_From: {needs}"
    ]
    named = f'TLS_Relay_Clients = "dns:a.example" TLS_Verified_Peer_Can_Relay = true {OPTIONAL}'
    assert errors(without.replace(OPTIONAL, named)) == [f"TLS_Require_Verified: {needs}"]
    (found,) = errors(conf.replace(OPTIONAL, "TLS_Verify_Mode = none"))
    assert found.startswith("TLS_Require_Verified: TLS_Verify_Mode = none (")
    (found,) = errors(conf.replace(' "STARTTLS"', ""))
    assert found == f'TLS_Require_Verified: nobody could send: STARTTLS is not offered for Listen ":25"{TAKES}'
    peer = 'Peer "10.0.0.1" { SMTP_Extensions = ( ) }'
    (found,) = errors(conf.replace(OPTIONAL, f"{OPTIONAL} {peer}"))
    assert found.endswith('STARTTLS is not offered for Listen ":25", Peer "10.0.0.1"' + TAKES)
    policy = f'Policy_Listener {{ Listen "/p" {{ TLS_Require_Verified = true }} }} {conf}'
    assert errors(policy)[0].startswith("TLS_Require_Verified is not valid in a Listen of a Policy_Listener")


@pytest.mark.parametrize("option", ["Require_TLS_For", "Require_TLS_From"])
def test_a_list_that_no_mail_can_satisfy_is_warned_of(option: str) -> None:
    config = parse_config(f'{option} = "example.org" ESMTP_Listener {{ Listen ":25" {{ }} }}')
    whose = "for" if option == "Require_TLS_For" else "of"
    why = f'no mail {whose} these domains can come in: STARTTLS is not offered for Listen ":25"{TAKES}'
    assert [problem.message for problem in config.warnings] == [f"{option}: {why}"]
