"""Certificates of the server: several kinds of keys, and passwords of key files."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tls_peers import intermediate, root
from tls_programs import OPENSSL, context_with, converse, identity, the_only, written

from triosmtp.tls import CertificateFiles, MaterialError, load_material
from triosmtp.x509.authority import Authority, Credential


def issued_by(authority: Authority, key_type: Any) -> Credential:
    return authority.issue("localhost", dns=["localhost"], key_type=key_type)


async def test_two_kinds_of_keys_each_with_its_own_chain() -> None:
    one = written(issued_by(root().issue_authority("RSA Intermediate"), "RSA-2048"), "both-rsa")
    two = written(issued_by(root().issue_authority("ECDSA Intermediate"), "P-256"), "both-ecdsa")
    for order in ((one, two), (two, one)):
        context = context_with(certificates=order)
        for kind, other in (("RSA", "ECDSA"), ("ECDSA", "RSA")):
            flags = ["-showcerts", "-tls1_2", "-cipher", f"ECDHE-{kind}-AES128-GCM-SHA256"]
            printed, learnt = await converse(context, [*OPENSSL, *flags])
            assert the_only(learnt).cipher == flags[-1]
            assert f"{kind} Intermediate" in printed
            assert f"{other} Intermediate" not in printed
            signatures = {"RSA": "rsa_pss_rsae_sha256", "ECDSA": "ecdsa_secp256r1_sha256"}[kind]
            printed, _ = await converse(context, [*OPENSSL, "-showcerts", "-tls1_3", "-sigalgs", signatures])
            assert f"{kind} Intermediate" in printed
            assert f"{other} Intermediate" not in printed


def test_two_keys_of_one_kind() -> None:
    other = written(intermediate().issue("other", key_type="P-384"), "other-ecdsa")
    with pytest.raises(MaterialError, match="only certificates of different kinds of key can stand side by side"):
        context_with(certificates=(identity(), other))


SECRET = b"correct horse"


def encrypted(tmp_path: Path, form: PrivateFormat, password: bytes) -> CertificateFiles:
    credential = root().issue("localhost", key_type="RSA-2048")
    certificate, key = credential.write(tmp_path, "enc")
    key.write_bytes(credential.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(SECRET)))
    file = tmp_path / "password"
    file.write_bytes(password)
    file.chmod(0o600)
    return CertificateFiles(certificate, key, file)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "older"])
def test_tls_key_password_file(form: PrivateFormat, tmp_path: Path) -> None:
    files = encrypted(tmp_path, form, b"  " + SECRET + b"\r\n")
    context = context_with(certificates=(files,))
    assert context.material.warnings == ()
    assert context.material.certificates[0].key_type == "RSA-2048"
    assert files.password_file is not None
    files.password_file.chmod(0o644)
    (warning,) = load_material(context.material.settings).warnings
    assert warning.option == "TLS_Key_Password_File"
    assert warning.reason == "holds a password and can be read by every user"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS8", "older"])
@pytest.mark.parametrize("password", [b"wrong-guess", b"x" * 2000])
def test_a_wrong_password_is_told_and_does_not_leak(form: PrivateFormat, password: bytes, tmp_path: Path) -> None:
    files = encrypted(tmp_path, form, password)
    with pytest.raises(MaterialError) as failure:
        context_with(certificates=(files,))
    expected = f'does not hold the password of the private key in "{files.key}" (line 1)'
    assert str(failure.value) == f'TLS_Key_Password_File "{files.password_file}": {expected}'
    assert failure.value.__cause__ is None


def test_a_password_for_a_key_that_needs_none(tmp_path: Path) -> None:
    files = encrypted(tmp_path, PrivateFormat.PKCS8, SECRET)
    plain = written(root().issue("localhost"), "plain")
    context_with(certificates=(files, CertificateFiles(plain.certificate, plain.key, files.password_file)))
