"""Options about client certificates: revocation lists, depth, the names that are sent, and asking without a bundle."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import VERSIONS, client_context, client_credential, folder, foreign_root, intermediate, meet, root
from tls_programs import GNUTLS, OPENSSL, context_with, converse, needs_gnutls, settings_with, the_only

from triosmtp.tls import MaterialWarning, ServerContext, TLSSettings, load_material
from triosmtp.tls.verify_callback import verify_error_text
from triosmtp.x509.authority import Authority, Credential

DAY = timedelta(days=1)


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
