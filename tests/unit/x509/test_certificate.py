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
from hypothesis import given
from hypothesis import strategies as st
from tls_peers import client_context, meet, root, scaled, server_context

from triosmtp.x509.authority import Credential
from triosmtp.x509.certificate import certificate_facts, printable, suppress_warnings


def der_of(credential: Credential) -> bytes:
    return credential.certificate.public_bytes(Encoding.DER)


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
    """A client with any certificate that it can load, and the key of it, gets in, and is not verified."""
    dice = random.Random(4)
    credential = root().issue("mx.example", dns=["mx.example"])
    original = der_of(credential)
    survived = 0
    for _ in range(scaled(5_000, 150)):
        broken = bytearray(original)
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        try:
            with suppress_warnings():
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
