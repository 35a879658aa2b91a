"""A revoked certificate grants no right, also if it has other faults or its client omits parts of the chain."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rights_site import (
    ALGORITHM,
    Site,
    assembled,
    distinguished_name,
    extension,
    moment,
    write,
)

from triosmtp import TLSInfo
from triosmtp.errors import ConfigError
from triosmtp.event import RevocationListExpired
from triosmtp.testing import Authority, MemoryServer, RecordingPolicy, ScriptedClient, open_memory_server
from triosmtp.tls import CertificateFiles, ContextStore, MaterialError, TLSSettings, load_material, renew
from triosmtp.tls.renewal_check import ExpiryCalendar
from triosmtp.x509.authority import Credential, new_key
from triosmtp.x509.certificate import certificate_facts
from triosmtp.x509.der import SEQUENCE, element

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
BODY = b"x: y\r\n\r\n"
WORKERS = {"alone": "", "with workers": "Workers = 2"}


def without_intermediate(clients: Authority) -> Credential:
    leaf = clients.issue_authority("Between").issue("gone.example", usage=["client"])
    return Credential(leaf.chain[:1], leaf.key)


GONE: dict[str, Callable[[Authority], Credential]] = {
    "nothing else": lambda clients: clients.issue("gone.example", usage=["client"]),
    "intermediate left out": without_intermediate,
    "for servers alone": lambda clients: clients.issue("gone.example", usage=["server"]),
    "expired": lambda clients: clients.issue("gone.example", not_before=NOW - 3 * DAY, not_after=NOW - DAY),
    "not yet valid": lambda clients: clients.issue("gone.example", not_before=NOW + DAY),
    "weak key": lambda clients: clients.issue("gone.example", key_type="RSA-1024"),
    "unknown critical extension": lambda clients: clients.issue("gone.example", extensions=[(UNKNOWN, True)]),
}
"""Clients whose certificates are revoked, by the one other thing that is wrong with them."""


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def write_lists(site: Site, *lists: x509.CertificateRevocationList) -> str:
    """Write revocation lists, and return the option."""
    (site.folder / "crl.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    return f'TLS_Client_CRL = "{site.folder}/crl.pem"'


def authority_of(site: Site, certificate: x509.Certificate) -> Authority:
    """Return an authority of the name that issued ``certificate``: it is by name that a list is found."""
    if certificate.issuer == site.clients.certificate.subject:
        return site.clients
    return Authority.create(certificate.issuer.rfc4514_string().removeprefix("CN="))


def listing(certificate: x509.Certificate) -> str:
    facts = certificate_facts(der_of(certificate))
    return f'TLS_Relay_Clients = ( "sha256:{facts.fingerprint_sha256}" "spki:{facts.spki_sha256}" "dns:gone.example" )'


async def secured(server: MemoryServer, context: ssl.SSLContext) -> ScriptedClient:
    client = server.connect()
    await client.read()
    await client.command("EHLO c.example.org")
    assert (await client.starttls(context)).code == 220
    await client.command("EHLO c.example.org")
    return client


class Witness(RecordingPolicy):
    seen: ClassVar[list[TLSInfo]] = []

    async def validate_mailfrom(self, session, sender, parameters):  # type: ignore[no-untyped-def]  # as in the base
        self.seen.append(session.tls)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("days", [30, 0.01], ids=["list in force", "list out of date"])
@pytest.mark.parametrize("name", GONE)
async def test_no_other_error_hides_a_revocation(name: str, days: float, site: Site) -> None:
    credential = GONE[name](site.clients)
    credential.write(site.folder, "gone")
    leaf = credential.certificate
    revocations = write_lists(site, authority_of(site, leaf).revocation_list([leaf], next_update=days * DAY))
    for more, code in ((listing(leaf), 250), (f"{listing(leaf)}\n{revocations}", 550)):
        async with open_memory_server(site.conf(more), policy=Witness()) as server:
            client = await secured(server, site.client("gone"))
            assert (await client.message("a@example.org", ["x@elsewhere.example"], BODY)).code == code
        (tls,) = Witness.seen
        Witness.seen.clear()
        assert tls.revoked is (code == 550)
    assert (tls.verified, tls.verify_code, tls.verify_error) == (False, 23, "certificate revoked")


async def test_a_list_holds_for_fingerprints_without_any_authority(site: Site) -> None:
    outsider = Authority.create("outsider")
    leaf = outsider.issue("client.example")
    leaf.write(site.folder, "client")
    for lists, code in ((outsider.revocation_list(), 250), (outsider.revocation_list([leaf.certificate]), 550)):
        more = f"{listing(leaf.certificate)} {write_lists(site, lists)}"
        conf = site.conf(more).replace(f'TLS_Client_CA = "{site.folder}/clientca.pem"', "")
        assert "TLS_Client_CA" not in conf
        async with open_memory_server(conf) as server:
            client = await secured(server, site.client("client"))
            assert (await client.message("a@example.org", ["x@elsewhere.example"], BODY)).code == code


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_revoked_intermediate_verifies_no_certificate(depth: int, site: Site) -> None:
    chain = [site.clients]
    for number in range(3):
        chain.append(chain[-1].issue_authority(f"Between {number}"))
    leaf = chain[-1].issue("client.example", dns=["client.example"], usage=["client"])
    leaf.write(site.folder, "client")
    lists = [
        each.revocation_list([revoked.certificate] if at == depth else [])
        for at, (each, revoked) in enumerate(pairwise(chain), 1)
    ]
    lists.append(chain[-1].revocation_list())
    assert await relays(site, write_lists(site, *lists)) == 550
    lists[depth - 1] = chain[depth - 1].revocation_list()
    assert await relays(site, write_lists(site, *lists)) == 250


async def relays(site: Site, more: str) -> int:
    async with open_memory_server(site.conf(more)) as server:
        client = await secured(server, site.client("client"))
        return (await client.message("a@example.org", ["x@elsewhere.example"], BODY)).code


async def test_an_anchor_that_its_own_list_names_is_an_anchor_all_the_same(site: Site) -> None:
    site.clients.issue("client.example", dns=["client.example"]).write(site.folder, "client")
    assert await relays(site, write_lists(site, site.clients.revocation_list([site.clients.certificate]))) == 250


@pytest.mark.parametrize(
    ("in_certificate", "in_list"),
    [
        (distinguished_name(b"Meyer & Co", 0x13), distinguished_name(b"Meyer & Co", 0x13)),
        (distinguished_name(b"M\xfcller", 0x14), distinguished_name(b"M\xfcller", 0x14)),
        (distinguished_name(b"M\xfcller", 0x14), distinguished_name("Müller".encode())),
        (distinguished_name(b"Example CA", 0x13), distinguished_name(b"EXAMPLE  ca")),
        (distinguished_name("ÄÖ".encode("utf-16-be"), 0x1E), distinguished_name("ÄÖ".encode())),
    ],
    ids=["ampersand", "Teletex", "Teletex and UTF-8", "case and spaces", "BMPString and UTF-8"],
)
async def test_openssl_compares_the_issuers(in_certificate: bytes, in_list: bytes, site: Site) -> None:
    key = new_key()
    leaf = assembled(new_key(), key, issuer=in_certificate)  # of an authority that nobody knows: an error before
    write(site.folder, "client", key, leaf)
    facts = certificate_facts(leaf)
    site.folder.joinpath("crl.pem").write_text(revocation_list(in_list, [b"\x12\x34\x56"]))
    listed = f'TLS_Relay_Clients = ( "sha256:{facts.fingerprint_sha256}" )'
    assert await relays(site, listed) == 250
    assert await relays(site, f'{listed} TLS_Client_CRL = "{site.folder}/crl.pem"') == 550
    site.folder.joinpath("crl.pem").write_text(revocation_list(in_list, [b"\x12\x34\x57"]))
    assert await relays(site, f'{listed} TLS_Client_CRL = "{site.folder}/crl.pem"') == 250


def revocation_list(issuer: bytes, serials: list[bytes], *extensions: bytes, entry: bytes = b"") -> str:
    """Return a list in PEM, octet by octet; nobody signed it, which OpenSSL does not ask when it loads one."""
    entries = [element(SEQUENCE, element(0x02, serial), moment(NOW - DAY), entry) for serial in serials]
    more = element(0xA0, element(SEQUENCE, *extensions)) if extensions else b""
    part = element(
        SEQUENCE, b"\x02\x01\x01", ALGORITHM, issuer, moment(NOW - DAY), moment(NOW + DAY),
        element(SEQUENCE, *entries) if entries else b"", more,
    )  # fmt: skip
    der = element(SEQUENCE, part, ALGORITHM, element(0x03, b"\x00\x00"))
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "X509 CRL")


def loaded(site: Site, text: str) -> list[str]:
    """Return the warnings of a list."""
    path = site.folder / "crl.pem"
    path.write_text(text)
    return [str(each) for each in load_material(settings(site)).warnings if each.path == path]


def settings(site: Site) -> TLSSettings:
    identity = CertificateFiles(site.folder / "cert.pem", site.folder / "cert.key")
    bundle, path = site.folder / "clientca.pem", site.folder / "crl.pem"
    return TLSSettings(certificates=(identity,), client_ca=bundle, client_crls=(path,), request_certificate=True)


OURS = distinguished_name(b"client CA")
_INDIRECT = element(SEQUENCE, b"\x84\x01\xff")
UNUSED = {
    "delta": revocation_list(OURS, [b"\x01"], extension("551d1b", b"\x02\x01\x01", critical=True)),
    "indirect": revocation_list(OURS, [b"\x01"], extension("551d1c", _INDIRECT, critical=True)),
}


@pytest.mark.parametrize("kind", UNUSED)
async def test_delta_and_indirect_lists_are_not_used(kind: str, site: Site) -> None:
    word = "a delta list" if kind == "delta" else "an indirect list"
    (warning,) = loaded(site, UNUSED[kind])
    assert f'the list of "CN=client CA" is {word} (RFC 5280' in warning
    assert load_material(settings(site)).revocations == ()
    site.clients.issue("client.example", dns=["client.example"]).write(site.folder, "client")
    assert await relays(site, f'TLS_Client_CRL = "{site.folder}/crl.pem"') == 550  # no list: it vouches for nobody


@pytest.mark.parametrize(
    "der",
    [
        b"\x30\x00",
        b"\x30\x03\x02\x01\x01",
        b"\x04\x03\x02\x01\x01",
        b"\x30\x80\x00\x00",
    ],
)
async def test_a_list_that_openssl_cannot_load_is_an_error(der: bytes, site: Site) -> None:
    (site.folder / "crl.pem").write_text(ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "X509 CRL"))
    with pytest.raises(MaterialError, match=r"revocation list 1 \(line 1\) cannot be parsed: ."):
        load_material(settings(site))
    with pytest.raises(ConfigError, match="cannot be parsed"):
        async with open_memory_server(site.conf(f'TLS_Client_CRL = "{site.folder}/crl.pem"')):
            pass


def test_a_reload_keeps_the_lists_that_can_be_used(site: Site) -> None:
    path = site.folder / "crl.pem"
    path.write_text(revocation_list(OURS, [b"\x01"]))
    store = ContextStore()
    before = store.prepare(settings(site))
    path.write_text(revocation_list(OURS, [b"\x01", b"\x02"]).replace("M", "A", 1))
    renewal = renew(store, [settings(site)])
    (problem,) = renewal.problems.values()
    assert (problem.error.option, problem.file) == ("TLS_Client_CRL", path)
    assert renewal.contexts[settings(site)] is before
    path.write_text(revocation_list(OURS, [b"\x01", b"\x02"]))
    (after,) = renew(store, [settings(site)]).contexts.values()
    assert [sorted(each.serials) for each in after.material.revocations] == [[1, 2]]


def test_an_expired_list_is_logged_once(site: Site) -> None:
    path = site.folder / "crl.pem"
    path.write_text(revocation_list(OURS, [b"\x01"]))
    material, calendar = load_material(settings(site)), ExpiryCalendar()
    (listed,) = material.revocations
    assert listed.next_update is not None
    assert calendar.expired_lists((material, material), listed.next_update - DAY / 24) == ()
    (event,) = calendar.expired_lists((material, material), listed.next_update)
    assert event == RevocationListExpired(file=str(path), issuer="CN=client CA", next_update=listed.next_update)
    assert calendar.expired_lists((material,), listed.next_update + DAY) == ()


def revoked_info() -> TLSInfo:
    return TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verify_code=23, revoked=True,
        verify_error="certificate revoked", client_certificate=b"x", client_fingerprint_sha256="aa" * 32,
        client_spki_sha256="bb" * 32, client_subject_cn="gone.example",
    )  # fmt: skip


def test_the_variables_of_a_revoked_client_have_no_identity() -> None:
    variables = revoked_info().variables()
    assert variables["tls_client_verified"] == "no"
    assert variables["tls_client_cert_revoked"] == "yes"
    assert not {name for name in variables if name.startswith("ccert_")}


async def test_require_external_and_results(site: Site) -> None:
    leaf = site.clients.issue("gone.example", dns=["gone.example"], usage=["client"])
    leaf.write(site.folder, "gone")
    options = 'TLS_Verify_Mode = "require" AuthExternalParameters = [ map = "dns" ]'
    options = f'{options} SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "AUTH EXTERNAL" )'
    listed = write_lists(site, site.clients.revocation_list([leaf.certificate]))
    conf = site.conf(options).replace('SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )', "", 1)
    for revoked, text in ((False, conf), (True, conf.replace("TLS_Client_CA", f"{listed}\n  TLS_Client_CA"))):
        async with open_memory_server(text) as server:
            client = server.connect()
            await client.read()
            await client.command("EHLO c.example.org")
            await client.starttls(site.client("gone"))
            assert ("AUTH EXTERNAL" in (await client.command("EHLO c.example.org")).lines) is not revoked
            answer = await client.command("MAIL FROM:<a@example.org>")
            assert answer.code == (550 if revoked else 250)
            assert ("revoked" in answer.text) is revoked


@pytest.mark.parametrize("workers", WORKERS)
def test_the_same_by_a_running_server(workers: str, site: Site) -> None:
    between = site.clients.issue_authority("Between")
    between.issue("good.example", dns=["good.example"], usage=["client"]).write(site.folder, "good")
    leaf = between.issue("gone.example", usage=["client"])
    Credential(leaf.chain[:1], leaf.key).write(site.folder, "gone")
    write(site.folder, "server", leaf.key, der_of(between.issue("x").certificate))
    below = site.clients.issue_authority("Revoked").issue("below.example", usage=["client"])
    below.write(site.folder, "below")
    lists = write_lists(
        site, site.clients.revocation_list([below.chain[1]]), between.revocation_list([leaf.certificate]),
        Authority(below.chain[1], site.clients.key).revocation_list(),
    )  # fmt: skip
    facts = certificate_facts(der_of(leaf.certificate))
    fingerprints = f'TLS_Relay_Clients = ( "sha256:{facts.fingerprint_sha256}" "dns:good.example" "dns:below.example" )'
    old = site.clients.revocation_list(next_update=timedelta(minutes=1))
    with (site.folder / "crl.pem").open("ab") as file:
        file.write(old.public_bytes(Encoding.PEM))
    with site.serving(site.conf(f"{fingerprints} {lists}", WORKERS[workers])) as port:
        assert {name: site.rcpt(port, name) for name in ("good", "gone", "below")} == {
            "good": 250, "gone": 550, "below": 550,
        }  # fmt: skip
    log = (site.folder / "log").read_text()
    assert log.count("revocation-list-expired") == 1
