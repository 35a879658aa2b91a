"""Findings in a chain as a server sends it, names that it is for, and the data of its TLSA record."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tls_peers import foreign_root, intermediate, root

from triosmtp.tls.chain_findings import Authorities, chain_findings, key_type, tlsa_data, tlsa_data_of_pem
from triosmtp.x509.authority import Credential
from triosmtp.x509.loaded_certificate import LoadedCertificate


def loaded(pem: bytes) -> LoadedCertificate:
    return LoadedCertificate.from_pem(pem)


def sent(credential: Credential) -> list[LoadedCertificate]:
    return [LoadedCertificate.from_der(each.public_bytes(Encoding.DER)) for each in credential.chain]


def findings(chain: list[LoadedCertificate], *, complete: bool = False) -> list[str]:
    known = Authorities.of([loaded(root().certificate_pem)], complete=complete)
    return [each.text for each in chain_findings(chain, known)]


def test_a_chain_up_to_a_known_root() -> None:
    assert findings(sent(intermediate().issue("mx.example.org"))) == []


def test_a_root_that_is_sent_and_an_intermediate_that_is_not() -> None:
    chain = sent(intermediate().issue("mx.example.org"))
    (text,) = findings([*chain, loaded(root().certificate_pem)])
    assert "need not be sent" in text
    (text,) = findings(chain[:1])
    assert "no authority of this system" in text
    (text,) = findings(chain[:1], complete=True)
    assert "an intermediate is missing" in text
    (text,) = findings(sent(foreign_root().issue("mx.example.org")), complete=True)
    assert "an intermediate is missing" in text


def test_a_certificate_that_expires_soon() -> None:
    end = datetime.now(UTC) + timedelta(days=3)
    (text,) = findings(sent(root().issue("mx.example.org", not_after=end)))
    assert f"expires on {end:%Y-%m-%d}" in text


def test_a_weak_key() -> None:
    (text,) = findings(sent(root().issue("mx.example.org", key_type="RSA-1024")))
    assert "weak key: RSA-1024" in text


def test_the_kind_of_a_key() -> None:
    der = sent(root().issue("mx.example.org", key_type="P-384"))[0].der
    assert key_type(der) == "P-384"
    assert key_type(b"junk") == "unknown"


def test_the_data_of_a_tlsa_record() -> None:
    credential = root().issue("mx.example.org")
    public = credential.key.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = f"3 1 1 {hashlib.sha256(spki).hexdigest()}"
    assert tlsa_data(sent(credential)[0].der) == expected
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (credential.certificate_pem, credential.key_pem, credential.certificate_pem + credential.key_pem, pem):
        assert tlsa_data_of_pem(data) == expected
    for junk in (b"", b"junk"):
        with pytest.raises(ValueError, match=r"\w"):
            tlsa_data_of_pem(junk)
