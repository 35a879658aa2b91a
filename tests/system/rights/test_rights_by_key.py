"""Only a client that proved to hold a key gets the right of that key."""

import hashlib

import pytest
from rights_site import COMMON_NAME, Site, assembled, distinguished_name, public_key, write

from triosmtp.testing import open_memory_server
from triosmtp.tls.chain_findings import tlsa_data
from triosmtp.x509.authority import new_key
from triosmtp.x509.certificate import certificate_facts
from triosmtp.x509.der import SEQUENCE, element

VERSIONS = ("TLSv1.2", "TLSv1.3")
VICTIM = new_key()
ATTACKER = new_key()
WORKERS = {"alone": "", "with workers": "Workers = 2"}


def in_long_form(tag: int, *content: bytes) -> bytes:
    """Return an element with a length of two octets, whether it needs them or not."""
    data = b"".join(content)
    return bytes([tag, 0x82]) + len(data).to_bytes(2, "big") + data


def hidden_in_a_name() -> bytes:
    """Return a name that OpenSSL reads as one CN, the victim's key, and that ends before the key for other readers."""
    value = in_long_form(0x31, in_long_form(0x30, COMMON_NAME, public_key(VICTIM)))
    return b"\x3f\x10\x82" + len(value).to_bytes(2, "big") + value


def forgeries() -> dict[str, bytes]:
    """Return the attacker's certificates: all are taken by OpenSSL."""
    content = element(0x31, element(SEQUENCE, COMMON_NAME, public_key(VICTIM)))
    return {
        "subject with a high tag number": assembled(ATTACKER, ATTACKER, subject=hidden_in_a_name()),
        "issuer with a high tag number": assembled(
            ATTACKER, ATTACKER, issuer=hidden_in_a_name(), subject=distinguished_name(b"x")
        ),
        "the key as the common name": assembled(ATTACKER, ATTACKER, subject=element(SEQUENCE, content)),
        "length in more octets than needed": assembled(
            ATTACKER, ATTACKER, subject=b"\x30\x84" + len(content).to_bytes(4, "big") + content
        ),
        "without end": assembled(ATTACKER, ATTACKER, subject=b"\x30\x80" + content + b"\x00\x00"),
    }


FORGERIES = forgeries()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("rights"))
    write(site.folder, "victim", VICTIM, assembled(VICTIM, VICTIM))
    for name, der in FORGERIES.items():
        write(site.folder, name, ATTACKER, der)
    return site


def listed(kind: str = "spki") -> str:
    digest = hashlib.sha256(public_key(VICTIM)).hexdigest()
    return f'TLS_Relay_Clients = ( "{kind}:{digest}" )'


@pytest.mark.parametrize("name", FORGERIES)
def test_the_hash_is_that_of_the_proven_key(name: str) -> None:
    assert certificate_facts(FORGERIES[name]).spki_sha256 == hashlib.sha256(public_key(ATTACKER)).hexdigest()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["victim", *FORGERIES])
async def test_knowledge_of_a_public_key_grants_no_relaying(name: str, version: str, site: Site) -> None:
    async with open_memory_server(site.conf(listed())) as server:
        client = server.connect()
        await client.read()
        await client.command("EHLO c.example.org")
        assert (await client.starttls(site.client(name, version))).code == 220
        await client.command("EHLO c.example.org")
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
        answer = await client.command("RCPT TO:<x@elsewhere.example>")
        assert answer.code == (250 if name == "victim" else 550)


@pytest.mark.parametrize("workers", WORKERS)
def test_the_same_by_a_running_server(workers: str, site: Site) -> None:
    with site.serving(site.conf(listed(), WORKERS[workers])) as port:
        told = {name: site.rcpt(port, name) for name in ["victim", *FORGERIES]}
    assert told == {"victim": 250, **dict.fromkeys(FORGERIES, 550)}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_tlsa_record_is_for_the_proven_key(name: str) -> None:
    assert tlsa_data(FORGERIES[name]) == f"3 1 1 {hashlib.sha256(public_key(ATTACKER)).hexdigest()}"
