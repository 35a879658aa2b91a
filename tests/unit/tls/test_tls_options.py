"""Every option of TLS as real clients see it: OpenSSL's s_client and GnuTLS's gnutls-cli, a test a row."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from OpenSSL import SSL, crypto
from tls_peers import folder, intermediate, plain_client, root, shake
from tls_programs import GNUTLS, OPENSSL, context_with, converse, identity, needs_gnutls, the_failure, the_only, written

from triosmtp.tls import CertificateFiles, MaterialError, ServerContext, load_material
from triosmtp.tls.cipher import VERSIONS
from triosmtp.tls.dh import GROUPS, group_for, group_parameters
from triosmtp.tls.engine import Engine
from triosmtp.x509.authority import Authority, Credential, new_key
from triosmtp.x509.public_key import read_key

OLD = ["-cipher", "ALL:@SECLEVEL=0"]
FLAGS = {"TLSv1": "-tls1", "TLSv1.1": "-tls1_1", "TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
ALL_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
DHE = "DHE-RSA-AES128-GCM-SHA256"


@pytest.mark.parametrize(
    ("protocols", "accepted"),
    [
        (("TLSv1.2", "TLSv1.3"), {"TLSv1.2", "TLSv1.3"}),
        (("TLSv1.3",), {"TLSv1.3"}),
        (("TLSv1.2",), {"TLSv1.2"}),
        (("TLSv1.1", "TLSv1.2"), {"TLSv1.1", "TLSv1.2"}),
        (("TLSv1.1", "TLSv1.3"), {"TLSv1.1", "TLSv1.3"}),
        (("TLSv1.0", "TLSv1.3"), {"TLSv1", "TLSv1.3"}),
        (ALL_VERSIONS, set(FLAGS)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
async def test_tls_protocols(protocols: tuple[str, ...], accepted: set[str]) -> None:
    context = context_with(protocols=protocols)
    for version, flag in FLAGS.items():
        printed, learnt = await converse(context, [*OPENSSL, flag, *OLD])
        if version in accepted:
            assert the_only(learnt).protocol == version
            assert "220 ready" in printed
        else:
            # If a version in the middle is missing, OpenSSL tries an older one, which the client refuses.
            gap = len(accepted) == 2 and min(accepted) < version < max(accepted)
            assert the_failure(learnt).reason == ("protocol_error" if gap else "no_common_version")


@needs_gnutls
@pytest.mark.parametrize(
    ("priority", "protocol"),
    [("NORMAL", "TLSv1.3"), ("NORMAL:-VERS-TLS1.3", "TLSv1.2"), ("NORMAL:-VERS-ALL:+VERS-TLS1.1", None)],
)
async def test_tls_protocols_by_gnutls(priority: str, protocol: str | None) -> None:
    _, learnt = await converse(context_with(), [*GNUTLS, "--priority", priority])
    if protocol is None:
        assert the_failure(learnt).reason == "no_common_version"
    else:
        assert the_only(learnt).protocol == protocol


@pytest.mark.parametrize(
    ("ciphers", "flags", "cipher"),
    [
        ("DEFAULT", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_2", "-cipher", "AESGCM"], None),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", ["-tls1_3"], "TLS_AES_256_GCM_SHA384"),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_3"], "TLS_AES_128_GCM_SHA256"),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], None),
        ("TLS_AES_128_GCM_SHA256", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], "ECDHE-ECDSA-AES256-SHA"),
        ("DEFAULT:!SHA1", ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"], None),
    ],
)
async def test_tls_ciphers(ciphers: str, flags: list[str], cipher: str | None) -> None:
    _, learnt = await converse(context_with(ciphers=ciphers), [*OPENSSL, *flags])
    if cipher is None:
        assert the_failure(learnt).reason == "no_common_cipher"
    else:
        assert the_only(learnt).cipher == cipher


def every_suite() -> list[str]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return SSL.Connection(context).get_cipher_list()


def accepted_suites(context: ServerContext, protocol: str) -> set[str]:
    """Try every suite that OpenSSL has, one by one."""
    number = VERSIONS[protocol]
    accepted = set()
    for name in every_suite():
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_min_proto_version(number)
        client.set_max_proto_version(number)
        try:
            if name.startswith("TLS_"):
                client.set_tls13_ciphersuites(name.encode())
            else:
                client.set_cipher_list(f"{name}:@SECLEVEL=0".encode())
            connection = SSL.Connection(client)
            connection.set_connect_state()
            shake(Engine(context.context), connection)
        except SSL.Error:
            continue
        accepted.add(str(connection.get_cipher_name()))
    return accepted


@pytest.mark.parametrize("kinds", [("ecdsa",), ("rsa",), ("ecdsa", "rsa")], ids="+".join)
@pytest.mark.parametrize("ciphers", ["DEFAULT", "ALL:@SECLEVEL=0", "TLS_CHACHA20_POLY1305_SHA256:HIGH:!SHA1"])
@pytest.mark.parametrize("dhe", [True, False])
def test_the_effective_list_is_what_clients_get(kinds: tuple[str, ...], ciphers: str, dhe: bool) -> None:
    context = context_with(certificates=tuple(map(identity, kinds)), ciphers=ciphers, enable_dhe=dhe)
    shown = context.ciphers()
    assert list(shown) == ["TLSv1.2", "TLSv1.3"]
    for protocol, names in shown.items():
        assert set(names) == accepted_suites(context, protocol)


def test_the_effective_list_of_an_old_version() -> None:
    context = context_with(protocols=ALL_VERSIONS)
    shown = context.ciphers()
    assert set(shown["TLSv1.0"]) == accepted_suites(context, "TLSv1.0")
    assert set(shown["TLSv1.0"]) < set(shown["TLSv1.2"])
    assert shown["TLSv1.0"] == shown["TLSv1.1"]


async def test_tls_enable_dhe_ciphers() -> None:
    rsa = (identity("rsa"),)
    printed, learnt = await converse(context_with(certificates=rsa), [*OPENSSL, "-tls1_2", "-cipher", DHE])
    assert the_only(learnt).cipher == DHE
    assert "Server Temp Key: DH, 2048 bits" in printed
    off = context_with(certificates=rsa, enable_dhe=False)
    _, learnt = await converse(off, [*OPENSSL, "-tls1_2", "-cipher", DHE])
    assert the_failure(learnt).reason == "no_common_cipher"
    _, learnt = await converse(off, [*OPENSSL, "-tls1_2", "-cipher", f"{DHE}:ECDHE-RSA-AES128-GCM-SHA256"])
    assert the_only(learnt).cipher == "ECDHE-RSA-AES128-GCM-SHA256"


@needs_gnutls
async def test_tls_enable_dhe_ciphers_by_gnutls() -> None:
    priority = ["--priority", "NORMAL:-VERS-TLS1.3:-KX-ALL:+DHE-RSA"]
    _, learnt = await converse(context_with(certificates=(identity("rsa"),)), [*GNUTLS, *priority])
    assert the_only(learnt).cipher.startswith("DHE-RSA-")
    _, learnt = await converse(context_with(certificates=(identity("rsa"),), enable_dhe=False), [*GNUTLS, *priority])
    assert the_failure(learnt).reason == "no_common_cipher"


@pytest.mark.parametrize("bits", GROUPS)
def test_the_groups_are_those_of_the_rfc(bits: int) -> None:
    run = subprocess.run(
        ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", f"group:ffdhe{bits}", "-text"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    mine = subprocess.run(
        ["openssl", "pkeyparam", "-text", "-noout"], input=group_parameters(bits), capture_output=True, check=True
    )
    assert f"ffdhe{bits}" in mine.stdout.decode()
    assert f"ffdhe{bits}" in run.stdout


def test_the_group_goes_with_the_weakest_key() -> None:
    rsa, small, large = (
        read_key(crypto.PKey.from_cryptography_key(new_key(kind))) for kind in ("RSA-2048", "P-256", "P-384")
    )
    assert [rsa.name, small.name, large.name] == ["RSA-2048", "P-256", "P-384"]
    assert group_for((rsa, large)) == 2048
    assert group_for((small,)) == 3072
    assert group_for((large,)) == 4096


def dh_file(tmp_path: Path, bits: int) -> Path:
    path = tmp_path / f"dh{bits}.pem"
    subprocess.run(["openssl", "dhparam", "-dsaparam", "-out", str(path), str(bits)], check=True, capture_output=True)
    return path


async def test_tls_dhparams_file(tmp_path: Path) -> None:
    own = context_with(certificates=(identity("rsa"),), dhparams_file=dh_file(tmp_path, 2304))
    printed, _ = await converse(own, [*OPENSSL, "-tls1_2", "-cipher", DHE])
    assert "Server Temp Key: DH, 2304 bits" in printed


@pytest.mark.parametrize("kind", ["1024", "missing", "junk", "certificate", "even"])
def test_tls_dhparams_file_that_cannot_be_used(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "dh.pem"
    even = b"-----BEGIN DH PARAMETERS-----\nMAYCAQQCAQI=\n-----END DH PARAMETERS-----\n"
    if kind == "1024":
        path = dh_file(tmp_path, 1024)
    elif kind != "missing":
        junk = b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"
        path.write_bytes({"junk": junk, "certificate": root().certificate_pem, "even": even}[kind])
    with pytest.raises(MaterialError) as failure:
        context_with(dhparams_file=path)
    words = {
        "1024": "the parameters of line 1 have 1024 bits, which is too weak: 2048 are the least",
        "missing": "does not exist",
        "junk": "the parameters of line 1 cannot be parsed: cut off",
        "certificate": "holds no Diffie-Hellman parameters",
        "even": "the parameters of line 1 cannot be parsed: not a prime and its generator",
    }
    assert str(failure.value) == f'TLS_DHParams_File "{path}": {words[kind]}'
    context_with(dhparams_file=path, enable_dhe=False)  # then nobody reads it


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


def test_no_certificate_and_no_version() -> None:
    for changes, words in (
        ({"certificates": ()}, "TLS_Certificate: names no certificate"),
        ({"protocols": ()}, "TLS_Protocols: leaves no protocol version"),
        ({"protocols": ("SSLv3",)}, 'TLS_Protocols: "SSLv3" is not a protocol version that can be enabled'),
    ):
        with pytest.raises(MaterialError) as failure:
            context_with(**changes)
        assert str(failure.value) == words


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


def test_paths_are_not_read_again(tmp_path: Path) -> None:
    files = written(root().issue("localhost"), "fleeting")
    material = load_material(context_with(certificates=(files,)).material.settings)
    files.certificate.unlink()
    assert set(material.files) == {files.certificate, files.key, folder() / "ca.pem"}


def test_the_post_quantum_group_is_left_on() -> None:
    engine = Engine(context_with().context)
    shake(engine, plain_client())
    assert engine.openssl_connection.get_group_name() == "X25519MLKEM768"
