"""Server names (SNI): who is shown which certificate, and that no name changes who is asked for one."""

import itertools
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import VERSIONS, client_context, client_credential, foreign_root, intermediate, meet, root
from tls_programs import (
    GNUTLS,
    OPENSSL,
    context_with,
    converse,
    identity,
    needs_gnutls,
    settings_with,
    the_failure,
    the_only,
    written,
)

from triosmtp.tls import CertificateFiles, MaterialError, ServerContext, load_material
from triosmtp.tls.context import select_name


@cache
def named(name: str, key_type: str = "P-256") -> CertificateFiles:
    authority = root().issue_authority(f"Authority of {name}")
    credential = authority.issue(name, dns=[name], key_type=key_type)  # type: ignore[arg-type]  # a literal, passed on
    return written(credential, f"sni-{name.replace('*', 'any')}-{key_type}")


@cache
def names() -> tuple[tuple[str, tuple[CertificateFiles, ...]], ...]:
    return (
        ("mx.example.org", (named("mx.example.org"), named("mx.example.org", "RSA-2048"))),
        ("*.example.org", (named("*.example.org"),)),
        ("xn--bcher-kva.example", (named("xn--bcher-kva.example"),)),
    )


@cache
def context(*, ask: bool = True) -> ServerContext:
    return context_with(server_names=names(), request_certificate=ask)


SHOWN = {
    "mx.example.org": "mx.example.org",
    "MX.Example.Org": "mx.example.org",
    "other.example.org": "*.example.org",
    "a.b.example.org": "localhost",
    "example.org": "localhost",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "elsewhere.example": "localhost",
    None: "localhost",
}


@pytest.mark.parametrize("asked", SHOWN)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_who_is_shown_what(asked: str | None, version: str) -> None:
    name = ["-noservername"] if asked is None else ["-servername", asked]
    printed, learnt = await converse(context(), [*OPENSSL, version, "-showcerts", *name])
    info = the_only(learnt)
    assert info.sni == asked
    assert f"subject=CN = {SHOWN[asked]}\n" in printed
    assert (f"Authority of {SHOWN[asked]}\n" in printed) is (SHOWN[asked] != "localhost")
    assert "Acceptable client certificate CA names\nCN = Test Root\n" in printed
    assert "220 ready" in printed


@needs_gnutls
@pytest.mark.parametrize(("asked", "shown"), [("mx.example.org", "mx.example.org"), ("x.example", "localhost")])
async def test_who_is_shown_what_by_gnutls(asked: str, shown: str) -> None:
    printed, learnt = await converse(context(), [*GNUTLS, "--sni-hostname", asked])
    assert the_only(learnt).sni == asked
    assert f"subject `CN={shown}'" in printed


@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
async def test_a_name_may_have_several_kinds_of_keys(kind: str) -> None:
    flags = ["-tls1_2", "-servername", "mx.example.org", "-cipher", f"ECDHE-{kind}-AES128-GCM-SHA256", "-showcerts"]
    printed, learnt = await converse(context(), [*OPENSSL, *flags])
    assert the_only(learnt).cipher == flags[4]
    assert printed.count("BEGIN CERTIFICATE") == 2
    assert "subject=CN = mx.example.org\n" in printed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked", ["localhost", "mx.example.org", "x.example.org"])
@pytest.mark.parametrize("who", ["good", "foreign", "nobody"])
@pytest.mark.parametrize("ask", [True, False])
async def test_no_name_changes_who_is_asked_and_who_is_trusted(version: str, asked: str, who: str, ask: bool) -> None:
    credential = {"good": client_credential(), "foreign": foreign_root().issue("client.example"), "nobody": None}[who]
    info, _ = await meet(context(ask=ask), client_context(version, credential), name=asked)
    assert info.verified is (ask and who == "good")
    assert info.verify_code == (20 if ask and who == "foreign" else 0)
    assert (info.client_certificate is not None) is (ask and who != "nobody")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked", ["localhost", "mx.example.org"])
async def test_no_name_changes_how_a_certificate_is_verified(version: str, asked: str, tmp_path: Path) -> None:
    gone = root().issue("gone.example")
    deep = intermediate().issue("deep.example")
    lists = tmp_path / "crl.pem"
    lists.write_bytes(
        root().revocation_list([gone.certificate]).public_bytes(Encoding.PEM)
        + intermediate().revocation_list().public_bytes(Encoding.PEM)
    )
    strict = context_with(server_names=names(), client_crls=(lists,), verify_depth=0)
    unvouched = context_with(server_names=names(), client_ca=None)
    for credential, code in ((client_credential(), 0), (gone, 23), (deep, 22)):
        info, _ = await meet(strict, client_context(version, credential), name=asked)
        assert (info.verified, info.verify_code) == (code == 0, code)
        info, _ = await meet(unvouched, client_context(version, credential), name=asked)
        assert not info.verified
        assert info.client_certificate == credential.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_of_one_name_is_not_resumed_by_another(version: str) -> None:
    client = client_context(version, foreign_root().issue("client.example"))
    session = None
    for asked in ("localhost", "mx.example.org", "x.example.org", "localhost"):
        info, session = await meet(context(), client, name=asked, session=session)  # meet() asserts: not resumed
        assert not info.verified
        assert info.verify_code == 20


async def test_other_options_hold_for_every_name() -> None:
    strict = context_with(server_names=names(), protocols=("TLSv1.3",), ciphers="TLS_AES_128_GCM_SHA256")
    for asked in ("mx.example.org", "elsewhere.example"):
        _, learnt = await converse(strict, [*OPENSSL, "-servername", asked])
        assert the_only(learnt).cipher == "TLS_AES_128_GCM_SHA256"
        _, learnt = await converse(strict, [*OPENSSL, "-servername", asked, "-tls1_2"])
        assert the_failure(learnt).reason == "no_common_version"
    dhe = ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256", "-servername", "mx.example.org"]
    _, learnt = await converse(context_with(server_names=names()), [*OPENSSL, *dhe])
    assert the_only(learnt).cipher == dhe[2]
    _, learnt = await converse(context_with(server_names=names(), enable_dhe=False), [*OPENSSL, *dhe])
    assert the_failure(learnt).reason == "no_common_cipher"


def test_a_name_s_files_are_checked_like_all_others() -> None:
    wrong = CertificateFiles(named("*.example.org").certificate, identity().key)
    with pytest.raises(MaterialError, match="does not match the first certificate"):
        load_material(settings_with(server_names=(("mx.example.org", (wrong,)),)))


def test_server_names_are_hostile() -> None:
    known = {"*.example.org": None, "mx.example.org": None}
    asked: list[str] = []

    def find(name: str) -> None:
        asked.append(name)
        known.get(name)

    for name in (b"", b".", b"*", b"\xff\xfe", b"." * 255, b"*.example.org", b"a" * 255 + b".example.org", b"x\x00y.z"):
        assert select_name(name, find) is None
    assert len(asked) <= 16


def test_every_combination_of_octets_in_a_short_name() -> None:
    for octets in itertools.product(b".*a\x00\xff", repeat=4):
        assert select_name(bytes(octets), dict[str, str]().get) is None
