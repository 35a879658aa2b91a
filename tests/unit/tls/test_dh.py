"""Parameters of DHE: the groups of RFC 7919, and a file of the operator's."""

import subprocess
from pathlib import Path

import pytest
from OpenSSL import crypto
from tls_peers import root
from tls_programs import GNUTLS, OPENSSL, context_with, converse, identity, needs_gnutls, the_failure, the_only

from triosmtp.tls import MaterialError
from triosmtp.tls.dh import GROUPS, group_for, group_parameters
from triosmtp.x509.authority import new_key
from triosmtp.x509.public_key import read_key

DHE = "DHE-RSA-AES128-GCM-SHA256"


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
