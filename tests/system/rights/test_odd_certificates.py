"""Certificates that OpenSSL takes and stricter readers refuse: each field is read on its own, every name counts."""

from pathlib import Path

import pytest
from rights_site import (
    ALTERNATIVE_NAME,
    CLIENT_AUTH,
    COMMON_NAME,
    EXTENDED_USAGE,
    Site,
    assembled,
    distinguished_name,
    extension,
    write,
)

from triosmtp import TLSInfo
from triosmtp.auth.certificate_identity import IdentityMap
from triosmtp.testing import open_memory_server
from triosmtp.x509.authority import new_key
from triosmtp.x509.certificate import certificate_facts
from triosmtp.x509.der import SEQUENCE, element

KEY = new_key()
USAGE = extension(EXTENDED_USAGE, CLIENT_AUTH)
HOST = element(0x82, b"mx.partner.example")
MANY = [element(0x82, b"host%d.example" % number) for number in range(150)]


def names(*each: bytes) -> tuple[bytes, ...]:
    return USAGE, extension(ALTERNATIVE_NAME, element(SEQUENCE, *each))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


SUBJECTS = {
    "ampersand": (distinguished_name(b"Meyer & Co", 0x13), "CN=Meyer & Co"),
    "underscore, asterisk and at": (distinguished_name(b"*_@x", 0x13), "CN=*_@x"),
    "Latin-1 in a T61String": (distinguished_name(b"M\xfcller", 0x14), "CN=Müller"),
    "Latin-1 in an IA5String": (distinguished_name(b"M\xfcller", 0x16), "CN=Müller"),
    "BMPString": (distinguished_name("Größe".encode("utf-16-be"), 0x1E), "CN=Größe"),
    "two attributes together": (
        element(
            SEQUENCE,
            element(0x31, *(element(SEQUENCE, COMMON_NAME, element(0x0C, each)) for each in (b"a", b"b"))),
        ),
        "CN=b+CN=a",
    ),
    "unknown attribute": (
        element(SEQUENCE, element(0x31, element(SEQUENCE, b"\x06\x03\x2a\x03\x04", element(0x0C, b"x")))),
        "1.2.3.4=#0C0178",
    ),
}


@pytest.mark.parametrize("name", SUBJECTS)
async def test_a_subject_that_openssl_takes(name: str, site: Site) -> None:
    subject, shown = SUBJECTS[name]
    der = assembled(site.clients.key, KEY, subject=subject, extensions=names(HOST))
    write(site.folder, "client", KEY, der)
    facts = certificate_facts(der)
    assert (facts.subject, facts.issuer, facts.sans) == (shown, "CN=client CA", ("dns:mx.partner.example",))
    assert facts.not_before is not None
    assert await relays(site) == 250


NAMES = {
    "mailbox in Latin-1": names(element(0x81, b"j\xfcrgen@partner.example"), HOST),
    "address of nine octets": names(element(0x87, bytes(9)), HOST),
    "malformed extension beside it": (*names(HOST), extension("2a0304", b"\x30\x7f")),
    "the 151st of them": names(*MANY, HOST),
    "a name of another kind": names(
        element(0xA0, b"\x06\x03\x2a\x03\x04", element(0xA0, element(0x0C, b"user@partner.example"))), HOST
    ),
    "name with a comma": names(element(0x82, b"a,dns:evil.example"), HOST),
    "long mailbox before it": names(element(0x81, b"x" * 3000 + b"@partner.example"), HOST),
}


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_loses_the_others(name: str, site: Site) -> None:
    write(site.folder, "client", KEY, assembled(site.clients.key, KEY, extensions=NAMES[name]))
    assert await relays(site) == 250
    assert await relays(site, "dns:evil.example") == 550


async def relays(site: Site, client: str = "dns:mx.partner.example") -> int:
    async with open_memory_server(site.conf(f'TLS_Relay_Clients = ( "{client}" )')) as server:
        peer = server.connect()
        await peer.read()
        await peer.command("EHLO c.example.org")
        assert (await peer.starttls(site.client("client"))).code == 220
        await peer.command("EHLO c.example.org")
        return (await peer.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code


def test_names_are_bounded_for_display_alone(site: Site) -> None:
    der = assembled(site.clients.key, KEY, extensions=names(*MANY, HOST))
    shown, every = certificate_facts(der).sans, certificate_facts(der, every_name=True).sans
    assert (len(shown), shown[-1]) == (101, "…")
    assert (len(every), every[-1]) == (151, "dns:mx.partner.example")
    variable = TLSInfo(protocol="x", cipher="x", cipher_algbits=1, cipher_usebits=1, client_sans=every).variables()
    assert variable["tls_client_cert_sans"] == ",".join(shown)


COSTLY = {
    "names": {"extensions": names(*[element(0x82, b"a")] * 10_000)},
    "attributes": {
        "subject": element(SEQUENCE, *[element(0x31, element(SEQUENCE, COMMON_NAME, element(0x0C, b"a")))] * 2000)
    },
    "extensions": {"extensions": (*names(HOST), *[extension("2a0304", b"")] * 3000)},
}


@pytest.mark.parametrize("kind", COSTLY)
def test_an_unverifiable_chain_costs_little(kind: str) -> None:
    facts = certificate_facts(assembled(KEY, KEY, **COSTLY[kind]))  # type: ignore[arg-type]  # one field of several
    assert facts.sans == ()
    assert facts.spki_sha256 is not None
    assert (facts.subject is None) is (kind == "attributes")


def test_alternative_names_twice_are_none() -> None:
    again = extension(ALTERNATIVE_NAME, element(SEQUENCE, HOST))
    assert certificate_facts(assembled(KEY, KEY, extensions=(*names(HOST), again))).sans == ()


@pytest.mark.parametrize("common_name", ["x" * 256 + "y", "x\ny", "a\\0Ab"])
def test_a_cut_common_name_proves_no_identity(common_name: str, site: Site) -> None:
    der = assembled(site.clients.key, KEY, subject=distinguished_name(common_name.encode()))
    facts = certificate_facts(der)
    tls = TLSInfo(
        protocol="x", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=True, client_certificate=der,
        client_subject_cn=facts.subject_cn,
    )  # fmt: skip
    assert IdentityMap("subject_cn").identify(tls) is None
