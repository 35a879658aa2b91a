"""Every certificate of TLS_Client_CA is an anchor, with a root above it or not; OpenSSL's own program is the judge."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tls_peers import VERSIONS, client_context, meet, settings

from triosmtp.tls import ServerContext, TLSSettings, build_context, load_material
from triosmtp.x509.authority import Authority, Credential

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
SERVERS = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]


@cache
def top() -> Authority:
    return Authority.create("Top")


@cache
def issuing() -> Authority:
    return top().issue_authority("Issuing CA")


@cache
def below() -> Authority:
    return issuing().issue_authority("Issuing CA 2")


@cache
def old_root() -> Authority:
    return Authority.create("Old Root", not_after=NOW - DAY)


@cache
def of_old_root() -> Authority:
    return old_root().issue_authority("Issuing CA of the Old Root")


@cache
def for_servers() -> Authority:
    return top().issue_authority("Servers' CA", extensions=SERVERS)


@cache
def expired() -> Authority:
    return top().issue_authority("Expired CA", not_after=NOW - DAY)


@cache
def narrow() -> Authority:
    return top().issue_authority("Narrow CA", path_length=0)


@cache
def client(issuer: Callable[[], Authority]) -> Credential:
    return issuer().issue("client.example", dns=["client.example"], usage=["client"])


def narrow_below() -> Authority:
    return narrow().issue_authority("Below the Narrow CA")


CONSTRAINTS: dict[str, Callable[[], Authority]] = {
    "names": lambda: top().issue_authority(
        "Constrained", extensions=[(x509.NameConstraints([x509.DNSName("partner.example")], None), True)]
    ),
    "path length": narrow,
    "usage": for_servers,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
async def test_what_an_authority_above_demands_holds_if_the_bundle_reaches_its_root(
    constraint: str, version: str, tmp_path: Path
) -> None:
    above = CONSTRAINTS[constraint]()
    below = above.issue_authority("Below")
    credential = below.issue("bank.example", dns=["bank.example"], usage=["client"])
    free = issuing().issue("free.example", dns=["free.example"], usage=["client"])
    chain = [below.certificate, above.certificate, top().certificate, issuing().certificate]
    for bundle, verified in ((chain, False), (chain[2:], False), (chain[1:], False), (chain[:1], True)):
        context = build_context(load_material(asked(tmp_path, bundle)))
        info, _ = await meet(context, client_context(version, credential))
        assert info.verified is verified, "an anchor alone has nothing above it"
        info, _ = await meet(context, client_context(version, free))
        assert info.verified is not verified


def alone(credential: Credential) -> Credential:
    return Credential(credential.chain[:1], credential.key)


Case = tuple[Callable[[], Credential], Callable[[], list[x509.Certificate]], bool]


def of(*authorities: Callable[[], Authority]) -> Callable[[], list[x509.Certificate]]:
    return lambda: [each().certificate for each in authorities]


CASES: dict[str, Case] = {
    "the issuing authority alone": (lambda: client(issuing), of(issuing), True),
    "and the client sends no intermediate": (lambda: alone(client(issuing)), of(issuing), True),
    "with the root": (lambda: client(issuing), of(issuing, top), True),
    "the root alone": (lambda: client(issuing), of(top), True),
    "the root alone, and no intermediate sent": (lambda: alone(client(issuing)), of(top), False),
    "the one above the issuing authority": (lambda: client(below), of(issuing), True),
    "the same, and no intermediate sent": (lambda: alone(client(below)), of(issuing), False),
    "another authority of that root": (lambda: client(below), of(for_servers), False),
    "an authority below, not above": (lambda: client(issuing), of(below), False),
    "below a root that has expired": (lambda: client(of_old_root), of(of_old_root), True),
    "and that root is there, too": (lambda: client(of_old_root), of(of_old_root, old_root), True),
    "an anchor that has expired": (lambda: client(expired), of(expired), False),
    "an anchor for servers": (lambda: client(for_servers), of(for_servers), False),
    "an anchor whose path length is exceeded": (lambda: client(narrow_below), of(narrow), False),
    "the client's own certificate": (lambda: client(issuing), lambda: [client(issuing).certificate], True),
    "another client's certificate": (lambda: client(issuing), lambda: [client(below).certificate], False),
}


def asked(folder: Path, authorities: list[x509.Certificate], **changes: object) -> TLSSettings:
    bundle = folder / "bundle.pem"
    bundle.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in authorities))
    fields = {"certificates": settings().certificates, "client_ca": bundle, "request_certificate": True, **changes}
    return TLSSettings(**fields)  # type: ignore[arg-type]


def openssl_verifies(folder: Path, credential: Credential) -> bool:
    (folder / "leaf.pem").write_bytes(credential.certificate.public_bytes(Encoding.PEM))
    (folder / "rest.pem").write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in credential.chain[1:]))
    command = ["openssl", "verify", "-partial_chain", "-purpose", "sslclient", "-CAfile", "bundle.pem", "-no-CApath"]
    command += ["-no-CAstore", *(["-untrusted", "rest.pem"] if credential.chain[1:] else []), "leaf.pem"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
async def test_a_client_verifies_as_by_openssl_verify_partial_chain(case: str, version: str, tmp_path: Path) -> None:
    make, authorities, expected = CASES[case]
    credential = make()
    context = build_context(load_material(asked(tmp_path, authorities())))
    info, _ = await meet(context, client_context(version, credential))
    assert info.verified is expected
    assert (info.verify_error is None) is expected
    assert openssl_verifies(tmp_path, credential) is expected


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_s_certificate_under_client_or_server(version: str, tmp_path: Path) -> None:
    """The second verification ends at the same anchors."""
    server = issuing().issue("mx.partner.example", usage=["server"])
    for purpose, verified in (("client", False), ("client-or-server", True)):
        wanted = asked(tmp_path, [issuing().certificate], client_purpose=purpose)
        info, _ = await meet(build_context(load_material(wanted)), client_context(version, server))
        assert (info.verified, info.server_purpose) == (verified, True)


def with_lists(
    folder: Path, authorities: list[x509.Certificate], *lists: x509.CertificateRevocationList
) -> ServerContext:
    path = folder / "crl.pem"
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    return build_context(load_material(asked(folder, authorities, client_crls=(path,))))


@pytest.mark.parametrize("bundle", [("issuing",), ("issuing", "top"), ("top",)], ids="+".join)
async def test_an_anchor_that_the_authority_above_revoked_verifies_nobody(
    bundle: tuple[str, ...], tmp_path: Path
) -> None:
    """With the anchor in the bundle OpenSSL's chain ends there, and does not ask the root."""
    authorities = [{"issuing": issuing, "top": top}[name]().certificate for name in bundle]
    good = with_lists(tmp_path, authorities, top().revocation_list(), issuing().revocation_list())
    info, _ = await meet(good, client_context("TLSv1.3", client(issuing)))
    assert info.verified
    gone = top().revocation_list([issuing().certificate])
    bad = with_lists(tmp_path, authorities, gone, issuing().revocation_list())
    info, _ = await meet(bad, client_context("TLSv1.3", client(issuing)))
    assert (info.verified, info.revoked) == (False, True)


@cache
def twin() -> Authority:
    """Return a certificate of the issuing authority's name and key, signed by another root."""
    root, known = Authority.create("Other Root"), issuing()
    key = known.certificate.public_key()
    builder = (
        x509.CertificateBuilder()
        .issuer_name(root.certificate.subject)
        .subject_name(known.certificate.subject)
        .public_key(key)
        .serial_number(4711)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return Authority(builder.sign(root.key, hashes.SHA256()), known.key)


@pytest.mark.parametrize(
    ("bundle", "verified"),
    [
        ((below, issuing, top), False),
        ((issuing, below), False),
        ((below, top), True),  # what is not in the bundle and not in the chain is not known
        ((below, issuing, twin, top), True),
    ],
    ids=["all", "without the root", "without the revoked one", "with a twin of the revoked one"],
)
async def test_an_anchor_below_a_revoked_one_verifies_nobody(
    bundle: tuple[Callable[[], Authority], ...], verified: bool, tmp_path: Path
) -> None:
    lists = [top().revocation_list([issuing().certificate]), issuing().revocation_list(), below().revocation_list()]
    context = with_lists(tmp_path, of(*bundle)(), *lists)
    for credential in (client(below), alone(client(below))):
        info, _ = await meet(context, client_context("TLSv1.3", credential))
        assert (info.verified, info.revoked) == (verified, not verified)


async def test_a_client_that_an_anchor_revoked_is_not_verified(tmp_path: Path) -> None:
    lists = issuing().revocation_list([client(issuing).certificate])
    context = with_lists(tmp_path, [issuing().certificate], lists)
    info, _ = await meet(context, client_context("TLSv1.3", client(issuing)))
    assert (info.verified, info.revoked) == (False, True)
    other = issuing().issue("other.example", usage=["client"])
    info, _ = await meet(context, client_context("TLSv1.3", other))
    assert info.verified
