"""The identity that a client certificate proves: by a name in it, or by a file."""

from pathlib import Path

import pytest

from triosmtp.auth import AuthFileError, IdentityMap
from triosmtp.variables import TLSInfo


def test_a_certificate_proves_the_identity_of_its_map(tmp_path: Path) -> None:
    tls = TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=True, client_certificate=b"x",
        client_subject_cn="cn", client_fingerprint_sha256="ab12", client_spki_sha256="cd",
        client_sans=("dns:*.example", "dns:a.example", "email:joe@example"),
    )  # fmt: skip
    assert [IdentityMap(kind).identify(tls) for kind in ("dns", "email", "subject_cn")] == [
        "a.example", "joe@example", "cn",
    ]  # fmt: skip
    file = tmp_path / "map"
    identities = IdentityMap(str(file))
    for line, who in (
        ("sha256:AB:12 one", "one"), ("spki:cd two", "two"), ("dns:A.example three", "three"), ("cn:other x", None),
        ("# cn:cn x", None), ("cn:cn four", "four"), ("email:joe@example five", "five"),
    ):  # fmt: skip
        file.write_text(f"{line}\n\n")
        identities._read = None
        assert identities.identify(tls) == who
    file.write_text("nonsense\n")
    with pytest.raises(AuthFileError, match="line 1: expected sha256:"):
        identities.check()
    unverified = TLSInfo(
        protocol="x", cipher="x", cipher_algbits=1, cipher_usebits=1, client_certificate=b"x", client_subject_cn="cn"
    )
    assert IdentityMap("subject_cn").identify(unverified) is None
    assert IdentityMap("subject_cn").identify(None) is None


def presented(cn: str = "cn", *sans: str) -> TLSInfo:
    return TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=True, client_certificate=b"x",
        client_subject_cn=cn, client_fingerprint_sha256="ab12", client_spki_sha256="cd", client_sans=sans,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "tls", "who"),
    [
        ("cn:bank", presented("ban\u212a"), None),
        ("cn:bank", presented("Bank"), None),
        ("cn:stra\u00dfe", presented("STRASSE"), None),
        ("cn:Bank", presented("Bank"), "x"),
        ("email:joe@example.org", presented("c", "email:Joe@example.org"), None),
        ("email:Joe@EXAMPLE.org", presented("c", "email:Joe@example.ORG"), "x"),
        ("email:joe@example.org", presented("c", "email:joe@example.org."), None),
        ("email:joe@bank.example", presented("c", "email:joe@ban\u212a.example"), None),
        ("dns:bank.example", presented("c", "dns:ban\u212a.example"), None),
        ("dns:BANK.example", presented("c", "dns:bank.EXAMPLE"), "x"),
        ("dns:a.b\u00fccher.example", presented("c", "dns:a.xn--bcher-kva.example"), "x"),
        ("dns:a.xn--bcher-kva.example", presented("c", "dns:a.b\u00fccher.example"), None),
        ("dns:a.example", presented("c", "uri:a.example"), None),
        ("sha256:AB12", presented("c"), "x"),
        ("cn:dns:a.example", presented("c", "dns:a.example"), None),
    ],
)
def test_only_domains_are_folded(tmp_path: Path, line: str, tls: TLSInfo, who: str | None) -> None:
    (tmp_path / "map").write_text(f"{line} x\n")
    assert IdentityMap(str(tmp_path / "map")).identify(tls) == who


@pytest.mark.parametrize(
    "line",
    ["dns:a.example.", "dns:*.a.example", "dns:exam\u00adple.org", "dns:", "email:joe", "email:joe@a b", "email:@a",
     "email:joe@", "sha256:xyz", "spki:", "cn:", "dns:ban\u212a.example"],
)  # fmt: skip
def test_a_line_that_cannot_be_compared_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "map").write_text(f"cn:a b\n{line} x\n")
    with pytest.raises(AuthFileError, match="line 2: "):
        IdentityMap(str(tmp_path / "map")).check()


def test_a_domain_is_returned_by_its_key() -> None:
    tls = presented("CN", "dns:MX.Example.ORG", "email:Joe@Example.ORG")
    assert [IdentityMap(kind).identify(tls) for kind in ("dns", "email", "subject_cn")] == [
        "mx.example.org", "Joe@example.org", "CN",
    ]  # fmt: skip


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("cn:cn joe\n", "utf-8-sig")
    assert IdentityMap(str(tmp_path / "map")).identify(presented("cn")) == "joe"
