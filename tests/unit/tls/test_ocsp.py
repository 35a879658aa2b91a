"""Stapled OCSP responses."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from der import Fields, integer
from tls_peers import (
    client_credential,
    foreign_root,
    root,
)
from tls_programs import (
    OPENSSL,
    context_with,
    converse,
    settings_with,
    the_only,
    written,
)

from triosmtp.tls import (
    CertificateFiles,
    MaterialError,
    TLSSettings,
    load_material,
)
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Credential

NOW = datetime.now(UTC)


HOUR = timedelta(hours=1)


@cache
def stapled_credential(key_type: Any = "P-256") -> Credential:
    return root().issue("localhost", dns=["localhost"], key_type=key_type)


def serial_line(certificate: x509.Certificate) -> str:
    octets = certificate.serial_number.to_bytes(20, "big")
    return f"Serial Number: {octets.hex().upper().removeprefix('00')}"  # as openssl prints it


def response(
    certificate: x509.Certificate,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    begin: datetime = NOW - HOUR,
    end: datetime | None = NOW + HOUR,
    issuer: x509.Certificate | None = None,
) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate, issuer=issuer or root().certificate, algorithm=hashes.SHA1(), cert_status=status,
        this_update=begin, next_update=end, revocation_time=begin if revoked else None, revocation_reason=None,
    ).responder_id(ocsp.OCSPResponderEncoding.HASH, root().certificate)  # fmt: skip
    return builder.sign(root().key, hashes.SHA256()).public_bytes(Encoding.DER)


def stapled(tmp_path: Path, der: bytes | None, credential: Credential | None = None) -> CertificateFiles:
    path = tmp_path / "ocsp.der"
    if der is not None:
        path.write_bytes(der)
    return evolve(written(credential or stapled_credential(), "stapled"), ocsp_response=path)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_tls_ocsp_response(version: str, tmp_path: Path) -> None:
    files = stapled(tmp_path, response(stapled_credential().certificate))
    context = context_with(certificates=(files,))
    assert context.material.warnings == ()
    printed, learnt = await converse(context, [*OPENSSL, version, "-status"])
    assert "OCSP Response Status: successful" in printed
    assert "Cert Status: good" in printed
    assert serial_line(stapled_credential().certificate) in printed
    assert isinstance(the_only(learnt), TLSInfo)
    printed, _ = await converse(context, [*OPENSSL, version])
    assert "OCSP" not in printed
    printed, _ = await converse(context_with(), [*OPENSSL, version, "-status"])
    assert "OCSP response: no response sent" in printed


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_each_certificate_has_its_own_response(version: str, tmp_path: Path) -> None:
    one, two = stapled_credential(), stapled_credential("RSA-2048")
    (tmp_path / "two").mkdir()
    first = stapled(tmp_path, response(one.certificate))
    named = evolve(written(two, "stapled-rsa"), ocsp_response=tmp_path / "two" / "ocsp.der")
    (tmp_path / "two" / "ocsp.der").write_bytes(response(two.certificate))
    context = context_with(certificates=(first, named), server_names=(("mx.example.org", (named,)),))
    signatures = {"ECDSA": "ecdsa_secp256r1_sha256", "RSA": "rsa_pss_rsae_sha256"}
    for kind, credential, asked in (("ECDSA", one, "x"), ("RSA", two, "x"), ("RSA", two, "mx.example.org")):
        flags = [version, "-status", "-sigalgs", signatures[kind], "-servername", asked]
        printed, _ = await converse(context, [*OPENSSL, *flags])
        assert serial_line(credential.certificate) in printed


async def test_old_response_is_a_warning_and_is_not_sent(tmp_path: Path) -> None:
    files = stapled(tmp_path, response(stapled_credential().certificate, begin=NOW - 3 * HOUR, end=NOW - HOUR))
    context = context_with(certificates=(files,))
    (warning,) = context.material.warnings
    assert (warning.option, warning.path) == ("TLS_OCSP_Response", files.ocsp_response)
    assert warning.reason.startswith("expired on ")
    printed, _ = await converse(context, [*OPENSSL, "-status"])
    assert "OCSP response: no response sent" in printed


@pytest.mark.parametrize(
    ("status", "begin", "reason"),
    [
        (ocsp.OCSPCertStatus.REVOKED, NOW - HOUR, "says that the certificate is revoked"),
        (ocsp.OCSPCertStatus.UNKNOWN, NOW - HOUR, "says that the certificate is unknown"),
        (ocsp.OCSPCertStatus.GOOD, NOW + HOUR, "is not valid before "),
    ],
)
def test_response_that_is_seldom_meant(
    status: ocsp.OCSPCertStatus, begin: datetime, reason: str, tmp_path: Path
) -> None:
    der = response(stapled_credential().certificate, status, begin=begin, end=None)
    (warning,) = load_material(settings_with(certificates=(stapled(tmp_path, der),))).warnings
    assert warning.reason.startswith(reason)


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (None, "does not exist"),
        (b"junk", "is not an OCSP response in DER: *"),
        (root().certificate.public_bytes(Encoding.PEM), "is not an OCSP response in DER: *"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            'is not a successful response, but "try_later"',
        ),
        (
            response(client_credential().certificate),
            "is about another certificate than the first of the file beside it",
        ),
    ],
    ids=["missing", "junk", "PEM", "unsuccessful", "other"],
)
def test_response_that_cannot_be_used(der: bytes | None, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MaterialError) as failure:
        load_material(settings_with(certificates=(stapled(tmp_path, der),)))
    assert failure.value.option == "TLS_OCSP_Response"
    assert failure.value.path == tmp_path / "ocsp.der"
    assert failure.value.reason.startswith(reason.removesuffix("*"))


def test_response_of_another_authority_for_the_same_number(tmp_path: Path) -> None:
    fields = Fields(serial=integer(stapled_credential().certificate.serial_number))
    other = x509.load_der_x509_certificate(fields.signed_by(foreign_root()))
    with pytest.raises(MaterialError, match="is about another certificate"):
        load_material(
            settings_with(certificates=(stapled(tmp_path, response(other, issuer=foreign_root().certificate)),))
        )


def test_an_ocsp_response_by_an_odd_name(tmp_path: Path) -> None:
    server = root().issue("mx.example.org")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Meyer X Co")])
    responder = root().issue(name)
    now = datetime.now(UTC)
    response = ocsp.OCSPResponseBuilder().add_response(
        server.certificate, root().certificate, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD,
        now, now + timedelta(days=1), None, None,
    )  # fmt: skip
    der = (
        response.responder_id(ocsp.OCSPResponderEncoding.NAME, responder.certificate)
        .certificates([responder.certificate])
        .sign(responder.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    odd = der.replace(b"\x0c\x0aMeyer X Co", b"\x13\x0aMeyer & Co")
    assert odd != der
    certificate, key = server.write(tmp_path, "mx")
    (tmp_path / "mx.ocsp").write_bytes(odd)
    identity = CertificateFiles(certificate, key, ocsp_response=tmp_path / "mx.ocsp")
    staple = load_material(TLSSettings(certificates=(identity,))).certificates[0].staple
    assert staple is not None
    assert (staple.status, staple.next_update) == ("good", (now + timedelta(days=1)).replace(microsecond=0))
