"""Options about client certificates: revocation lists, depth, the names that are sent, and asking without a bundle."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import VERSIONS, client_context, client_credential, folder, foreign_root, intermediate, meet, root
from tls_programs import GNUTLS, OPENSSL, context_with, converse, needs_gnutls, settings_with, the_only

from triosmtp.tls import MaterialError, MaterialWarning, ServerContext, TLSSettings, load_material
from triosmtp.tls.verification import verify_error_text
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


def below(count: int) -> Credential:
    authority = root()
    for number in range(count):
        authority = authority.issue_authority(f"Level {number}")
    return authority.issue("deep.example", usage=["client"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("depth", [0, 1, 3])
async def test_tls_verify_depth(version: str, depth: int) -> None:
    context = context_with(verify_depth=depth)
    for intermediates in range(5):
        info, _ = await meet(context, client_context(version, below(intermediates)))
        assert info.verified is (intermediates <= depth)
        assert info.verify_code == (0 if intermediates <= depth else 22)
        assert info.verify_error == (None if intermediates <= depth else "certificate chain too long")


@pytest.mark.parametrize("version", VERSIONS)
async def test_tls_send_client_ca_names(version: str) -> None:
    flag = f"-{version.lower().removesuffix('.3').removesuffix('.2').replace('v', '')}_{version[-1]}"
    certificate, key = client_credential().write(folder(), "named-client")
    presented = ["-cert", str(certificate), "-key", str(key)]
    for send in (True, False):
        context = context_with(send_client_ca_names=send)
        printed, learnt = await converse(context, [*OPENSSL, flag, *presented])
        assert ("Acceptable client certificate CA names\nCN = Test Root\n" in printed) is send
        assert the_only(learnt).verified


@needs_gnutls
@pytest.mark.parametrize("credential", ["good", "foreign"])
async def test_gnutls_presents_its_certificate(credential: str) -> None:
    chosen = client_credential() if credential == "good" else foreign_root().issue("client.example")
    certificate, key = chosen.write(folder(), f"gnutls-{credential}")
    presented = ["--x509certfile", str(certificate), "--x509keyfile", str(key)]
    printed, learnt = await converse(context_with(), [*GNUTLS, *presented])
    assert "220 ready" in printed
    assert the_only(learnt).verify_code == {"good": 0, "foreign": 20}[credential]


def only_fingerprints() -> ServerContext:
    return context_with(client_ca=None, request_certificate=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["self-signed", "issued", "with root", "from a public system bundle"])
async def test_without_a_bundle_a_certificate_is_taken_and_never_verified(version: str, who: str) -> None:
    authority = Authority.create("self.example")
    credential = {
        "self-signed": Credential((authority.certificate,), authority.key),
        "issued": client_credential(),
        "with root": Credential((*client_credential().chain, root().certificate), client_credential().key),
        "from a public system bundle": intermediate().issue("far.example"),
    }[who]
    context = only_fingerprints()
    assert context.requests_certificate
    client = client_context(version, credential)
    session = None
    for _ in range(2):
        info, session = await meet(context, client, session=session)
        assert not info.verified
        assert info.verify_code in {18, 19, 20}
        assert info.verify_error == verify_error_text(info.verify_code)
        assert info.client_certificate == credential.certificate.public_bytes(Encoding.DER)
        assert info.client_fingerprint_sha256 is not None
        assert info.client_spki_sha256 is not None
    info, _ = await meet(context, client_context(version))
    assert (info.verified, info.verify_error) == (False, "no certificate presented")


async def test_without_a_bundle_no_name_is_sent() -> None:
    printed, _ = await converse(only_fingerprints(), [*OPENSSL])
    assert "No client certificate CA names sent" in printed
    assert "220 ready" in printed


def test_a_bundle_out_of_its_time_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "old.pem"
    path.write_bytes(Authority.create("Old", not_after=datetime.now(UTC) - DAY).certificate_pem)
    settings: TLSSettings = settings_with(client_ca=path)
    (warning,) = load_material(settings).warnings
    assert isinstance(warning, MaterialWarning)
    assert warning.option == "TLS_Client_CA"
