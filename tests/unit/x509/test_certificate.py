"""The facts of a certificate: what its owner wrote there, made harmless."""

import hashlib
import random
import subprocess
from datetime import UTC
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL._util import ffi, lib
from tls_peers import client_context, meet, root, scaled, server_context

from triosmtp.tls.verification import VERIFY_ERRORS, verify_error_text
from triosmtp.x509.authority import Credential
from triosmtp.x509.certificate import certificate_facts, printable, unwarned


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


def test_hexadecimal_is_openssl_s_without_colons(tmp_path: Path) -> None:
    credential = root().issue("x")
    (tmp_path / "x.pem").write_bytes(credential.certificate_pem)
    command = ["openssl", "x509", "-in", "x.pem", "-noout", "-serial", "-fingerprint", "-sha256"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    serial, fingerprint = output.splitlines()
    facts = certificate_facts(der_of(credential))
    assert facts.serial == serial.split("=")[1].lower()
    assert facts.fingerprint_sha256 == fingerprint.split("=")[1].replace(":", "").lower()


@pytest.mark.parametrize("key_type", ["P-256", "P-384", "RSA-2048"])
def test_hash_of_the_public_key(key_type: str) -> None:
    credential = root().issue("x", key_type=key_type)  # type: ignore[arg-type]  # one of the literals
    public = credential.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate_facts(der_of(credential)).spki_sha256 == hashlib.sha256(public).hexdigest()


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


def test_fields_are_guarded_one_by_one() -> None:
    broken = bytearray(der_of(root().issue("mx.example", dns=["mx.example"])))
    at = broken.index(b"\x06\x03\x55\x1d\x11")  # subjectAltName: its content stops being a SEQUENCE
    broken[at + 7] = 0x04
    facts = certificate_facts(bytes(broken))
    assert facts.sans == ()
    assert facts.subject_cn == "mx.example"
    assert facts.not_before is not None
    assert facts.not_before.tzinfo is UTC


def test_what_is_no_certificate_has_a_fingerprint_all_the_same() -> None:
    facts = certificate_facts(b"nonsense")
    assert facts.fingerprint_sha256 == hashlib.sha256(b"nonsense").hexdigest()
    assert set(attrs.astuple(facts)) == {facts.fingerprint_sha256, None, ()}


@given(st.binary(max_size=200))
def test_any_bytes(der: bytes) -> None:
    certificate_facts(der)


def test_mutated_certificates() -> None:
    dice = random.Random(1)
    original = der_of(root().issue("mx.example", dns=["mx.example"], email=["a@b.example"], ip=["192.0.2.1"]))
    for _ in range(scaled(20_000, 1_000)):
        broken = bytearray(original)
        for _ in range(dice.randint(1, 3)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        for value in attrs.astuple(certificate_facts(bytes(broken))):
            assert not isinstance(value, str) or value.isprintable()


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
async def test_session_survives_mutated_certificates() -> None:
    """Whatever a client can load for itself, and holds the key of: it gets in, and is not verified."""
    dice = random.Random(4)
    credential = root().issue("mx.example", dns=["mx.example"])
    original = der_of(credential)
    survived = 0
    for _ in range(scaled(5_000, 150)):
        broken = bytearray(original)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        try:
            with unwarned():
                damaged = x509.load_der_x509_certificate(bytes(broken))
            client = client_context("TLSv1.2", Credential((damaged,), credential.key))
        except (ValueError, OSError, x509.InvalidVersion):
            continue
        info, _ = await meet(server_context(), client)
        survived += 1
        assert not info.verified
        assert info.verify_code
        assert info.client_certificate == bytes(broken)
        assert all(value.isprintable() for value in info.variables().values())
    assert survived > 10


@given(st.text(max_size=300))
def test_printable_is_printable_and_bounded(text: str) -> None:
    shown = printable(text, 50, escape=",\\")
    assert shown.isprintable()
    assert "," not in shown
    assert len(shown) <= 50 * 12 + 1


@given(st.text(max_size=40), st.text(max_size=40))
def test_escaped_strings_stay_different(one: str, other: str) -> None:
    assert (printable(one, escape=",\\") == printable(other, escape=",\\")) is (one == other)


def test_table_of_verify_errors_is_openssl_s() -> None:
    for code in range(1, 120):
        text = ffi.string(lib.X509_verify_cert_error_string(code)).decode()
        if not text.startswith("unknown certificate verification error"):
            # OpenSSL 4 added the second part of one text …
            assert verify_error_text(code) in {text, f"{text} or the system clock is incorrect"}
        elif lib.OpenSSL_version_num() >= 0x40000000:  # … and some codes
            assert code not in VERIFY_ERRORS
            assert verify_error_text(code) == f"certificate verification error {code}"
