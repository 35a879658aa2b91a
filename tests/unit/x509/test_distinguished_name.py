"""Distinguished names as text."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tls_peers import root

from triosmtp.x509.authority import Credential
from triosmtp.x509.certificate import certificate_facts


def named(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def der_of(credential: Credential) -> bytes:
    return credential.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "subject",
    [
        named((NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, 'Fish, Chips + "Tea" \\ <x>; #1')),
        named((NameOID.COMMON_NAME, "#leading"), (NameOID.ORGANIZATIONAL_UNIT_NAME, " spaces ")),
        named((NameOID.COMMON_NAME, "a=b"), (NameOID.EMAIL_ADDRESS, "post@example.org")),
        named(
            (NameOID.DOMAIN_COMPONENT, "org"), (NameOID.DOMAIN_COMPONENT, "example"), (NameOID.COMMON_NAME, "Ünïcödé")
        ),
        named(
            (NameOID.SERIAL_NUMBER, "42"), (NameOID.SURNAME, "Doe"), (NameOID.GIVEN_NAME, "Jo"), (NameOID.TITLE, "Dr")
        ),
        x509.Name([]),
    ],
)
def test_names_are_openssl_s_rfc_2253_form(subject: x509.Name, tmp_path: Path) -> None:
    credential = root().issue(subject)
    (tmp_path / "x.pem").write_bytes(credential.certificate_pem)
    command = ["openssl", "x509", "-in", "x.pem", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8"]
    expected = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert certificate_facts(der_of(credential)).subject == expected.removeprefix("subject=").rstrip("\n")


HOSTILE = "mx.example\r\nX-Spam: no\0\x1b[31m\u2028\u202e\x7f\x85"


def test_hostile_strings_become_harmless() -> None:
    credential = root().issue(
        named((NameOID.COMMON_NAME, HOSTILE), (NameOID.ORGANIZATION_NAME, "\r\n.\r\n")),
        dns=["a.example\r\nRCPT", "b,dns:admin.example", "c\\2Cd"],
    )
    facts = certificate_facts(der_of(credential))
    assert facts.subject_cn == "mx.example\\0D\\0AX-Spam: no\\00\\1B[31m\\E2\\80\\A8\\E2\\80\\AE\\7F\\C2\\85"
    assert facts.subject is not None
    assert facts.subject.isprintable()
    assert facts.subject.startswith("O=\\0D\\0A.\\0D\\0A,CN=mx.example\\0D\\0A")
    assert facts.sans == ("dns:a.example\\0D\\0ARCPT", "dns:b\\2Cdns:admin.example", "dns:c\\5C2Cd")


def test_the_most_specific_common_name_counts() -> None:
    subject = named((NameOID.COMMON_NAME, "general"), (NameOID.COMMON_NAME, "specific"))
    assert certificate_facts(der_of(root().issue(subject))).subject_cn == "specific"


def test_long_fields_are_cut() -> None:
    names = [f"host{number}.example" for number in range(150)]
    with pytest.warns(UserWarning, match="length"):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 4000, _validate=False)])
    credential = root().issue(name, dns=["y" * 1000, *names])
    facts = certificate_facts(der_of(credential))
    assert facts.subject_cn == "x" * 256 + "…"
    assert facts.subject == "CN=" + "x" * 1021 + "…"
    assert len(facts.sans) == 101
    assert facts.sans[0] == "dns:" + "y" * 256 + "…"
    assert facts.sans[100] == "…"
