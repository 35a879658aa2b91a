"""Authorities whose customers are everybody, told from those of one's own house."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tls_peers import intermediate, root

from triosmtp.x509 import public_authority
from triosmtp.x509.authority import Authority
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.public_authority import public_authorities


def of(organisation: str) -> x509.Certificate:
    organisation_name = x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)
    name = x509.Name([organisation_name, x509.NameAttribute(NameOID.COMMON_NAME, "R99")])
    return root().issue(name).certificate


def loaded(certificate: x509.Certificate) -> LoadedCertificate:
    return LoadedCertificate.from_der(certificate.public_bytes(Encoding.DER))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle = tmp_path / "system.pem"
    bundle.write_bytes(b"")
    monkeypatch.setattr(public_authority, "_SYSTEM", (str(bundle),))
    monkeypatch.setattr(public_authority, "_OWN", (str(tmp_path / "own"),))
    return bundle


def test_a_house_of_its_own(system: Path) -> None:
    assert (
        public_authorities(
            map(loaded, [root().certificate, intermediate().certificate, of("Letsencryption Fans e.V.")])
        )
        == ()
    )


@pytest.mark.parametrize("name", ["Let's Encrypt", "DigiCert Inc", "GoDaddy.com, Inc.", "SSL Corp", "ZeroSSL"])
def test_known_by_name(name: str, system: Path) -> None:
    assert len(public_authorities(map(loaded, [root().certificate, of(name)]))) == 1


def test_known_by_key_whatever_it_is_called(system: Path) -> None:
    public = Authority.create("Nobody Heard of It")
    system.write_bytes(public.certificate_pem + intermediate().certificate_pem)
    assert public_authorities(map(loaded, [root().certificate, public.certificate])) == ("CN=Nobody Heard of It",)


def test_an_administrator_may_trust_the_house_system_wide(system: Path) -> None:
    system.write_bytes(root().certificate_pem)
    assert public_authorities(map(loaded, [root().certificate])) == ("CN=Test Root",)
    own = system.parent / "own" / "deeper"
    own.mkdir(parents=True)
    (own / "house.crt").write_bytes(root().certificate_pem)
    (own / "README").write_text("not a certificate")
    assert public_authorities(map(loaded, [root().certificate])) == ()
