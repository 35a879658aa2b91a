"""Whether a server's certificate is the expected one."""

import pytest
from tls_peers import root

from triosmtp.tls.server_identity import matches_host, matches_name
from triosmtp.x509.authority import Credential
from triosmtp.x509.loaded_certificate import LoadedCertificate


def der_of(credential: Credential) -> bytes:
    return LoadedCertificate.from_pem(credential.certificate_pem).der


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("mx.example.org", True),
        ("MX.example.org.", True),
        ("a.mail.example.org", True),
        ("a.b.mail.example.org", False),
        ("mail.example.org", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_the_names_that_a_certificate_is_for(host: str, matches: bool) -> None:
    der = der_of(root().issue("other.example.org", dns=["mx.example.org", "*.mail.example.org"]))
    assert matches_name(der, host) is matches
    assert not matches_name(der, "other.example.org")  # the common name does not count


@pytest.mark.parametrize(
    ("host", "matches"),
    [("192.0.2.1", True), ("192.0.2.2", False), ("2001:db8::1", True), ("2001:DB8:0::1", True), ("::1", False)],
)
def test_an_address_is_compared_with_addresses_alone(host: str, matches: bool) -> None:
    der = der_of(root().issue("x", dns=["192.0.2.2", "mx.example.org"], ip=["192.0.2.1", "2001:db8::1"]))
    assert matches_host(der, host) is matches
    assert matches_host(der, "mx.example.org")
