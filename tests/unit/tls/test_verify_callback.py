"""What a client certificate may be like: the session survives every one, and the variables tell them apart."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL._util import ffi, lib
from tls_peers import (
    VERSIONS,
    client_context,
    client_credential,
    foreign_root,
    intermediate,
    meet,
    root,
    server_context,
)

from triosmtp.tls.verify_callback import VERIFY_ERRORS, verify_error_text
from triosmtp.x509.authority import Authority, Credential

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def damaged(credential: Credential) -> Credential:
    """Return the same certificate with one bit of its signature changed."""
    der = bytearray(credential.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Credential((x509.load_der_x509_certificate(bytes(der)),), credential.key)


def issued_by_a_leaf() -> Credential:
    leaf = client_credential()
    return Authority(leaf.certificate, leaf.key, leaf.chain).issue("grandchild.example")


def below_a_constrained_authority() -> Credential:
    return root().issue_authority("No More", path_length=0).issue_authority("One Too Many").issue("deep.example")


def outside_of_permitted_names() -> Credential:
    constraint = x509.NameConstraints([x509.DNSName("permitted.example")], None)
    authority = root().issue_authority("Constrained", extensions=[(constraint, True)])
    return authority.issue("client.example", dns=["client.other.example"])


def alone(credential: Credential) -> Credential:
    return Credential(credential.chain[:1], credential.key)


def self_signed() -> Credential:
    authority = Authority.create("client.example")
    return Credential((authority.certificate,), authority.key)


def with_root() -> Credential:
    leaf = foreign_root().issue("client.example")
    return Credential((*leaf.chain, foreign_root().certificate), leaf.key)


@frozen
class Situation:
    make: Callable[[], Credential | None]
    code: int

    @property
    def reason(self) -> str | None:
        return None if self.code == 0 else verify_error_text(self.code)


SITUATIONS = {
    "good": Situation(client_credential, 0),
    "good, RSA": Situation(lambda: root().issue("rsa.example", key_type="RSA-2048"), 0),
    "via an intermediate": Situation(lambda: intermediate().issue("far.example"), 0),
    "intermediate missing": Situation(lambda: alone(intermediate().issue("far.example")), 20),
    "self-signed": Situation(self_signed, 18),
    "expired": Situation(lambda: root().issue("old", not_before=NOW - 3 * DAY, not_after=NOW - DAY), 10),
    "not yet valid": Situation(lambda: root().issue("new", not_before=NOW + DAY, not_after=NOW + 3 * DAY), 9),
    "wrong EKU": Situation(lambda: root().issue("server.example", usage=["server"]), 26),
    "RSA-1024": Situation(lambda: root().issue("weak.example", key_type="RSA-1024"), 66),
    "unknown critical extension": Situation(
        lambda: root().issue(
            "critical.example",
            extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)],
        ),
        34,
    ),
    "issued by a leaf": Situation(issued_by_a_leaf, 79),
    "bad signature": Situation(lambda: damaged(client_credential()), 7),
    "foreign CA": Situation(lambda: foreign_root().issue("client.example"), 20),
    "foreign CA, root presented": Situation(with_root, 19),
    "path too long": Situation(below_a_constrained_authority, 25),
    "name not permitted": Situation(outside_of_permitted_names, 47),
    "revoked, and nobody was told": Situation(lambda: root().issue("revoked.example"), 0),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
async def test_session_survives_and_the_reason_is_told(situation: Situation, version: str, tmp_path: Path) -> None:
    credential = situation.make()
    assert credential is not None
    info, _ = await meet(server_context(), client_context(version, credential))
    assert info.protocol == version
    assert (info.verified, info.verify_code, info.verify_error) == (
        situation.code == 0,
        situation.code,
        situation.reason,
    )
    assert info.client_certificate == credential.certificate.public_bytes(Encoding.DER)
    assert info.variables()["tls_client_verified"] == ("yes" if situation.code == 0 else "no")
    assert openssl_verify(credential, tmp_path) == situation.code


def openssl_verify(credential: Credential, folder: Path) -> int:
    """Return the first error number of OpenSSL's own program; 0 if it verifies the certificate."""
    (folder / "root.pem").write_bytes(root().certificate_pem)
    (folder / "leaf.pem").write_bytes(credential.certificate.public_bytes(Encoding.PEM))
    (folder / "rest.pem").write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in credential.chain[1:]))
    command = ["openssl", "verify", "-purpose", "sslclient", "-auth_level", "2", "-CAfile", "root.pem"]
    command += ["-no-CApath", "-no-CAstore"]
    if len(credential.chain) > 1:
        command += ["-untrusted", "rest.pem"]
    result = subprocess.run([*command, "leaf.pem"], cwd=folder, capture_output=True, text=True, check=False)
    words = (result.stdout + result.stderr).split("error ", 1)
    if result.returncode == 0:
        assert len(words) == 1, words
        return 0
    return int(words[1].split()[0])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ask", [True, False])
async def test_no_certificate(version: str, ask: bool) -> None:
    info, _ = await meet(server_context(ask=ask), client_context(version))
    assert not info.verified
    assert info.verify_error == "no certificate presented"
    assert info.verify_code == 0
    assert info.client_certificate is None
    assert "tls_client_cert_subject" not in info.variables()


async def test_certificate_that_is_not_asked_for_does_not_come() -> None:
    info, _ = await meet(server_context(ask=False), client_context("TLSv1.3", client_credential()))
    assert (info.verified, info.client_certificate) == (False, None)


async def test_variables_of_a_verified_client() -> None:
    credential = root().issue(
        x509.Name.from_rfc4514_string("CN=mx.partner.example,O=Partner\\, Inc.,C=DE"),
        dns=["mx.partner.example"],
        email=["post@partner.example"],
        ip=["192.0.2.1", "2001:db8::1"],
        uri=["https://partner.example/a,b"],
    )
    info, _ = await meet(server_context(), client_context("TLSv1.3", credential), name="mx.example.org")
    variables = {name: value for name, value in info.variables().items() if name.startswith("tls")}
    assert info.handshake_seconds > 0
    del variables["tls_client_cert_fingerprint_sha256"], variables["tls_client_cert_spki_sha256"]
    certificate = credential.certificate
    assert variables == {
        "tls": "on",
        "tls_cipher": "TLS_AES_256_GCM_SHA384",
        "tls_cipher_algbits": "256",
        "tls_cipher_usebits": "256",
        "tls_protocol": "TLSv1.3",
        "tls_group": "x25519",
        "tls_sni": "mx.example.org",
        "tls_client_verified": "yes",
        "tls_client_cert_subject": "CN=mx.partner.example,O=Partner\\, Inc.,C=DE",
        "tls_client_cert_issuer": "CN=Test Root",
        "tls_client_cert_subject_cn": "mx.partner.example",
        "tls_client_cert_issuer_cn": "Test Root",
        "tls_client_cert_serial": certificate.serial_number.to_bytes(20, "big").hex().removeprefix("00"),
        "tls_client_cert_sans": "dns:mx.partner.example,email:post@partner.example,ip:192.0.2.1,ip:2001:db8::1,"
        "uri:https://partner.example/a\\2Cb",
        "tls_client_eku": "both",
        "tls_client_cert_not_before": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tls_client_cert_not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def test_table_of_verify_errors_is_openssl_s() -> None:
    for code in range(1, 120):
        text = ffi.string(lib.X509_verify_cert_error_string(code)).decode()
        if not text.startswith("unknown certificate verification error"):
            # OpenSSL 4 added the second part of one text …
            assert verify_error_text(code) in {text, f"{text} or the system clock is incorrect"}
        elif lib.OpenSSL_version_num() >= 0x40000000:  # … and some codes
            assert code not in VERIFY_ERRORS
            assert verify_error_text(code) == f"certificate verification error {code}"
