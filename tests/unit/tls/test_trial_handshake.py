"""A set of certificates that no client can use is refused, and groups of key exchange are as the options say."""

from base64 import encodebytes
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from odd_curves import ODD_CURVES, on_curve, write
from tls_peers import client_context, meet, root, settings
from tls_programs import OPENSSL, context_with, converse, the_only

from triosmtp.cli import main
from triosmtp.tls import CertificateFiles, ContextStore, MaterialError, TLSSettings, build_context, load_material, renew
from triosmtp.tls import key_exchange_groups as groups

needs_groups = pytest.mark.skipif(not groups.can_set_groups(), reason="cryptography before 47 has no call for groups")


def good(folder: Path, key_type: Any = "P-256", name: str = "mx") -> CertificateFiles:
    credential = root().issue("mx.example.org", dns=["mx.example.org"], key_type=key_type)
    return write(folder, credential.certificate_pem, credential.key_pem, name)


USELESS: dict[str, tuple[str, dict[str, Any]]] = {
    **{curve: (curve, {}) for curve in ODD_CURVES},
    "brainpool under TLS 1.3 alone": ("brainpoolP256r1", {"protocols": ("TLSv1.3",)}),
    "secp256k1 under TLS 1.0 too": ("secp256k1", {"protocols": ("TLSv1.0", "TLSv1.1", "TLSv1.2")}),
    "ECDSA for aRSA": ("P-256", {"protocols": ("TLSv1.2",), "ciphers": "aRSA"}),
    "RSA for aECDSA": ("RSA-2048", {"protocols": ("TLSv1.2",), "ciphers": "ECDHE+aECDSA"}),
    "ECDSA for kRSA": ("P-384", {"protocols": ("TLSv1.2",), "ciphers": "kRSA"}),
    "PSK alone": ("RSA-2048", {"protocols": ("TLSv1.2",), "ciphers": "PSK:!kRSAPSK"}),
}


def of_kind(folder: Path, kind: str, name: str = "mx") -> CertificateFiles:
    return write(folder, *on_curve(kind), name) if kind in ODD_CURVES else good(folder, kind, name)


@pytest.mark.parametrize("case", USELESS)
def test_a_certificate_that_no_client_can_use_is_refused(case: str, tmp_path: Path) -> None:
    kind, changes = USELESS[case]
    identity = of_kind(tmp_path, kind)
    asked = TLSSettings(certificates=(identity,), **changes)
    with pytest.raises(MaterialError) as failure:
        ContextStore().prepare(asked)
    assert (failure.value.option, failure.value.path) == ("TLS_Certificate", identity.certificate)
    assert failure.value.reason.startswith("no client can use it")


RENEWALS = ("secp256k1", "brainpoolP256r1", "ECDSA for aRSA")


@pytest.mark.parametrize("case", RENEWALS)
async def test_a_renewal_does_not_put_it_in_force(case: str, tmp_path: Path) -> None:
    kind, changes = USELESS[case]
    identity = good(tmp_path, "RSA-2048")
    asked = TLSSettings(certificates=(identity,), **changes)
    store = ContextStore()
    store.prepare(asked)
    of_kind(tmp_path, kind)
    renewal = renew(store, [asked])
    assert "no client can use it" in renewal.problems[asked].reason
    async with store.lock:
        store.adopt(renewal)
    assert store.get(asked).material.certificates[0].key_type == "RSA-2048"
    await meet(store.get(asked), client_context("TLSv1.2"))
    good(tmp_path, "RSA-2048")
    assert not renew(store, [asked]).problems


def test_beside_one_that_serves_it_is_a_warning(tmp_path: Path) -> None:
    rsa, odd = good(tmp_path, "RSA-2048", "rsa"), write(tmp_path, *on_curve("secp256k1"))
    context = build_context(load_material(TLSSettings(certificates=(rsa, odd))))
    (warning,) = context.warnings
    assert (warning.option, warning.path) == ("TLS_Certificate", odd.certificate)
    assert "a key of secp256k1" in warning.reason
    both = build_context(load_material(TLSSettings(certificates=(rsa, good(tmp_path)))))
    assert both.warnings == ()


def test_the_certificates_of_a_server_name_are_tried_too(tmp_path: Path) -> None:
    own, odd = good(tmp_path, name="own"), write(tmp_path, *on_curve("secp256k1"))
    with pytest.raises(MaterialError, match="no client can use it") as failure:
        build_context(load_material(TLSSettings(certificates=(own,), server_names=(("a.example", (odd,)),))))
    assert failure.value.path == odd.certificate


def test_a_suite_without_certificates_is_one(tmp_path: Path) -> None:
    """Anonymous suites need none; odd as that is, clients may use them."""
    asked = TLSSettings(certificates=(good(tmp_path),), protocols=("TLSv1.2",), ciphers="aNULL:@SECLEVEL=0")
    build_context(load_material(asked))


def test_a_private_key_that_signs_wrongly_is_found(tmp_path: Path) -> None:
    """Its public half is that of the certificate; what it signs does not hold."""
    credential = root().issue("x")
    der = bytearray(credential.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    der[der.index(b"\x04\x20") + 20] ^= 1
    key = b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(bytes(der)) + b"-----END PRIVATE KEY-----\n"
    identity = write(tmp_path, credential.certificate_pem, key)
    with pytest.raises(MaterialError, match="no client can use it"):
        build_context(load_material(TLSSettings(certificates=(identity,))))


CONF = """
Relay_Domains = ( "example.org" )
Deliver_To = "discard:"
{more}
ESMTP_Listener {{
  TLS_Certificate = "mx.pem"
  TLS_Key = "mx.key"
  Banner_Hostname = "mx.example.org"
  Listen ":25" {{ SMTP_Extensions = ( "STARTTLS" ) }}
}}
"""


@needs_groups
def test_the_commands_know_both_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good(tmp_path)
    more = 'TLS_EC_Curve_Names = "X25519:P-256"\nTLSv13_Ciphersuites = "TLS_AES_128_GCM_SHA256"'
    (tmp_path / "t.conf").write_text(CONF.format(more=more))
    assert main(["tls", "show", "-c", "t.conf"]) == 0
    shown = capsys.readouterr().out
    assert "  groups      X25519 P-256\n" in shown
    assert "  TLSv1.3     TLS_AES_128_GCM_SHA256\n" in shown
    (tmp_path / "t.conf").write_text(CONF.format(more=more.replace("P-256", "P-255").replace("128_GCM", "127_GCM")))
    assert main(["check", "-c", "t.conf"]) == 78
    told = capsys.readouterr().err
    assert 'TLS_EC_Curve_Names: OpenSSL has no group "P-255"' in told
    assert 'TLSv13_Ciphersuites: OpenSSL has no suite "TLS_AES_127_GCM_SHA256" for TLS 1.3' in told


@pytest.mark.parametrize("case", RENEWALS)
def test_the_commands_refuse_it(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kind, changes = USELESS[case]
    of_kind(tmp_path, kind)
    more = 'TLS_Protocols = "+TLSv1.2"\nTLS_Ciphers = "aRSA"' if changes else ""
    (tmp_path / "t.conf").write_text(CONF.format(more=more))
    for command, code in (("check",), 78), (("tls", "check"), 1), (("tls", "show"), 78):
        assert main([*command, "-c", "t.conf"]) == code
        assert "no client can use it" in capsys.readouterr().err


# Groups


@needs_groups
def test_a_curve_that_is_named_makes_its_certificates_usable(tmp_path: Path) -> None:
    identity = write(tmp_path, *on_curve("brainpoolP256r1"))
    named = ("brainpoolP256r1", "X25519")
    for protocols in (("TLSv1.2", "TLSv1.3"), ("TLSv1.2",), ("TLSv1.3",)):
        asked = TLSSettings(certificates=(identity,), groups=named, protocols=protocols)
        context = build_context(load_material(asked))
        assert context.ciphers()[protocols[-1]]


# Suites


@pytest.mark.parametrize("suite", ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256"])
async def test_tlsv13_ciphersuites(suite: str) -> None:
    everything = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256"
    context = context_with(cipher_suites=suite, ciphers="ECDHE+AESGCM")
    _, learnt = await converse(context, [*OPENSSL, "-ciphersuites", everything])
    assert the_only(learnt).cipher == suite
    assert context.ciphers()["TLSv1.3"] == (suite,)
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" in context.ciphers()["TLSv1.2"]


def test_a_suite_that_openssl_does_not_know() -> None:
    """OpenSSL takes the others and says nothing."""
    wanted = TLSSettings(certificates=settings().certificates, cipher_suites="TLS_AES_128_GCM_SHA256:TLS_BOGUS")
    with pytest.raises(MaterialError, match='OpenSSL has no suite "TLS_BOGUS"') as failure:
        load_material(wanted)
    assert failure.value.option == "TLSv13_Ciphersuites"


# Keys of clients
