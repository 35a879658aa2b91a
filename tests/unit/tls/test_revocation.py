"""Revocation lists of the authorities of clients."""

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import VERSIONS, client_context, client_credential, foreign_root, intermediate, meet, root
from tls_programs import OPENSSL, context_with, converse, settings_with, the_only

from triosmtp.tls import MaterialError, load_material
from triosmtp.x509.authority import Authority, Credential

DAY = timedelta(days=1)


def crl(
    path: Path, *authorities: Authority, revoked: Iterable[x509.Certificate] = (), days: float = 30
) -> tuple[Path, ...]:
    lists = (each.revocation_list(revoked, next_update=days * DAY) for each in authorities)
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    return (path,)


@cache
def revoked_client() -> Credential:
    return root().issue("gone.example", usage=["client"])


@pytest.mark.parametrize("version", VERSIONS)
async def test_tls_client_crl(version: str, tmp_path: Path) -> None:
    context = context_with(client_crls=crl(tmp_path / "crl.pem", root(), revoked=[revoked_client().certificate]))
    assert context.material.warnings == ()
    for credential, code in ((client_credential(), 0), (revoked_client(), 23), (foreign_root().issue("x"), 20)):
        info, _ = await meet(context, client_context(version, credential))
        assert (info.verified, info.verify_code) == (code == 0, code)
    info, _ = await meet(context_with(), client_context(version, revoked_client()))
    assert info.verified


async def test_tls_client_crl_by_real_clients(tmp_path: Path) -> None:
    context = context_with(client_crls=crl(tmp_path / "crl.pem", root(), revoked=[revoked_client().certificate]))
    certificate, key = revoked_client().write(tmp_path, "gone")
    printed, learnt = await converse(context, [*OPENSSL, "-cert", str(certificate), "-key", str(key)])
    assert "220 ready" in printed
    assert the_only(learnt).verify_error == "certificate revoked"


async def test_the_lists_of_several_authorities_in_several_files(tmp_path: Path) -> None:
    leaf = intermediate().issue("far.example")
    gone = intermediate().issue("far-and-gone.example")
    files = crl(tmp_path / "1.pem", root(), foreign_root()) + crl(
        tmp_path / "2.pem", intermediate(), revoked=[gone.certificate]
    )
    context = context_with(client_crls=files)
    for credential, code in ((client_credential(), 0), (leaf, 0), (gone, 23)):
        info, _ = await meet(context, client_context("TLSv1.3", credential))
        assert info.verify_code == code


async def test_an_authority_without_a_list_vouches_for_nobody(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(root().certificate_pem + foreign_root().certificate_pem)
    settings = settings_with(client_ca=bundle, client_crls=crl(tmp_path / "crl.pem", root()))
    (warning,) = load_material(settings).warnings
    assert str(warning) == (
        f'TLS_Client_CA "{bundle}": "CN=Foreign Root" has no revocation list in TLS_Client_CRL: '
        "none of its clients is verified"
    )
    context = context_with(client_ca=bundle, client_crls=settings.client_crls)
    info, _ = await meet(context, client_context("TLSv1.3", foreign_root().issue("client.example")))
    assert (info.verified, info.verify_error) == (False, "unable to get certificate CRL")
    info, _ = await meet(context, client_context("TLSv1.3", client_credential()))
    assert info.verified


async def test_a_root_above_an_intermediate_needs_no_list(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(root().certificate_pem + intermediate().certificate_pem)
    context = context_with(client_ca=bundle, client_crls=crl(tmp_path / "crl.pem", intermediate()))
    assert context.material.warnings == ()
    info, _ = await meet(context, client_context("TLSv1.3", intermediate().issue("far.example")))
    assert info.verified


async def test_an_expired_list_verifies_nobody_and_is_a_warning(tmp_path: Path) -> None:
    context = context_with(client_crls=crl(tmp_path / "crl.pem", root(), days=0.01))
    (warning,) = context.material.warnings
    assert warning.option == "TLS_Client_CRL"
    assert 'the list of "CN=Test Root" expired on ' in warning.reason
    info, _ = await meet(context, client_context("TLSv1.3", client_credential()))
    assert (info.verified, info.verify_error) == (False, "CRL has expired")


async def test_a_list_with_a_forged_signature_verifies_nobody(tmp_path: Path) -> None:
    forger = Authority(root().certificate, foreign_root().key)
    context = context_with(client_crls=crl(tmp_path / "crl.pem", forger))
    info, _ = await meet(context, client_context("TLSv1.3", client_credential()))
    assert (info.verified, info.verify_error) == (False, "CRL signature failure")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "does not exist"),
        (b"junk", "is not in PEM format (no -----BEGIN line)"),
        (root().certificate_pem, "holds no revocation list"),
        (
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            "revocation list 1 (line 1) cannot be parsed: *",
        ),
    ],
    ids=["missing", "junk", "certificate", "damaged"],
)
def test_a_list_that_cannot_be_used(data: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(MaterialError) as failure:
        context_with(client_crls=(path,))
    assert failure.value.option == "TLS_Client_CRL"
    assert failure.value.path == path
    assert failure.value.reason.startswith(reason.removesuffix("*"))
    context_with(client_crls=(path,), request_certificate=False)  # nobody is asked: nobody reads it
