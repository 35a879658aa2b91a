"""A certificate that OpenSSL has parsed."""

from datetime import UTC, datetime, timedelta

import pytest
from tls_peers import foreign_root, intermediate, root

from triosmtp.x509.authority import Credential
from triosmtp.x509.loaded_certificate import LoadedCertificate

DAY = timedelta(days=1)


def loaded(credential: Credential) -> list[LoadedCertificate]:
    blocks = credential.certificate_pem.split(b"-----END CERTIFICATE-----")[:-1]
    return [LoadedCertificate.from_pem(block + b"-----END CERTIFICATE-----") for block in blocks]


def test_the_same_by_pem_and_der() -> None:
    first = loaded(intermediate().issue("mx.example.org"))[0]
    for again in (LoadedCertificate.from_der(first.der), LoadedCertificate.from_pem(first.pem)):
        assert (again.der, again.subject, again.key_name()) == (first.der, "CN=mx.example.org", "P-256")


@pytest.mark.parametrize("data", [b"", b"junk", b"\x30\x03\x02\x01\x01"])
def test_what_is_no_certificate(data: bytes) -> None:
    for load in (LoadedCertificate.from_der, LoadedCertificate.from_pem):
        with pytest.raises(ValueError, match=r"\w"):
            load(data)


def test_who_issued_it() -> None:
    leaf, middle = loaded(intermediate().issue("mx.example.org"))
    top = LoadedCertificate.from_pem(root().certificate_pem)
    other = LoadedCertificate.from_pem(foreign_root().certificate_pem)
    assert leaf.is_issued_by(middle)
    assert middle.is_issued_by(top)
    assert not leaf.is_issued_by(top)
    assert not middle.is_issued_by(other)
    assert [each.is_self_issued for each in (leaf, middle, top)] == [False, False, True]


def test_the_names_fit_and_the_signature_does_not() -> None:
    leaf, middle = loaded(intermediate().issue("mx.example.org"))
    damaged = LoadedCertificate.from_der(leaf.der[:-1] + bytes([leaf.der[-1] ^ 1]))
    assert damaged.facts.issuer == middle.facts.subject
    assert not damaged.is_issued_by(middle)


def test_when_it_is_valid() -> None:
    now = datetime.now(UTC)
    leaf = loaded(root().issue("mx.example.org", not_before=now - DAY, not_after=now + DAY))[0]
    assert leaf.validity_fault() is None
    assert "is not valid before" in str(leaf.validity_fault(now - 2 * DAY))
    assert "expired on" in str(leaf.validity_fault(now + 2 * DAY))
