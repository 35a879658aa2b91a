"""Everything that an operator can get wrong with certificate files, and what is said of it."""

import os
from base64 import encodebytes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from der import Fields
from tls_peers import root, settings_of

from triosmtp.tls import ContextStore, MaterialError, TLSSettings, build_context, load_material
from triosmtp.x509.authority import new_key


def having(good: TLSSettings, **changes: Any) -> TLSSettings:
    """Return the same settings with other files for the one certificate."""
    return evolve(good, certificates=(evolve(good.certificates[0], **changes),))


def test_what_is_known_of_good_material(good: TLSSettings) -> None:
    material = load_material(good)
    assert material.warnings == ()
    assert material.certificates[0].leaf.subject == "CN=mx.example.org"
    assert material.certificates[0].leaf.sans == ("dns:mx.example.org",)
    assert material.certificates[0].leaf.not_after == material.certificates[0].chain[0].facts.not_after
    assert [certificate.subject for certificate in material.certificates[0].chain] == [
        "CN=mx.example.org",
        "CN=Test Intermediate",
    ]
    assert len(material.authorities) == 2
    assert material.certificates[0].key_type == "P-256"
    assert set(material.files) == {good.certificates[0].certificate, good.certificates[0].key, good.client_ca}
    assert build_context(material).requests_certificate


def test_a_client_ca_that_is_not_used_is_not_read(good: TLSSettings) -> None:
    material = load_material(evolve(good, client_ca=Path("/does/not/exist"), request_certificate=False))
    assert material.authorities == ()
    assert not build_context(material).requests_certificate


Wrong = Callable[[Path, TLSSettings], TLSSettings]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def encrypted(folder: Path, form: PrivateFormat) -> Path:
    data = new_key("RSA-2048").private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
    return written(folder / "encrypted.key", data)


def damaged(pem: bytes) -> bytes:
    """Damage the tag.  Octets behind the end would be ignored if the base64 before them is not padded."""
    return pem.replace(b"-----\nM", b"-----\nA")


def of_no_version() -> bytes:
    der = Fields(version=bytes.fromhex("a003020108")).signed_by(root())
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def weak(folder: Path) -> TLSSettings:
    certificate, key = root().issue("x", key_type="RSA-1024").write(folder, "w")
    return settings_of(certificate, key)


PEM = root().certificate_pem

WRONG: dict[str, tuple[Wrong, str, str]] = {
    "certificate missing": (
        lambda folder, good: having(good, certificate=folder / "none.pem"),
        "TLS_Certificate",
        'TLS_Certificate "{}/none.pem": does not exist',
    ),
    "certificate is a folder": (
        lambda folder, good: having(good, certificate=folder),
        "TLS_Certificate",
        'TLS_Certificate "{}": cannot be read: Is a directory',
    ),
    "certificate is a device": (
        lambda folder, good: having(good, certificate=Path("/dev/zero")),
        "TLS_Certificate",
        'TLS_Certificate "/dev/zero": cannot be read: not a regular file',
    ),
    "certificate is a FIFO": (
        lambda folder, good: having(good, certificate=fifo(folder / "x")),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": cannot be read: not a regular file',
    ),
    "certificate unreadable": (
        lambda folder, good: having(good, certificate=good.certificates[0].certificate / "inside"),
        "TLS_Certificate",
        'TLS_Certificate "{}/mx.pem/inside": cannot be read: Not a directory',
    ),
    "certificate empty": (
        lambda folder, good: having(good, certificate=written(folder / "x", b"\n")),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": is empty',
    ),
    "certificate far too large": (
        lambda folder, good: having(good, certificate=written(folder / "x", b"x" * (5 << 20))),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": is larger than 4 MiB',
    ),
    "certificate in DER": (
        lambda folder, good: having(good, certificate=written(folder / "x", b"0\x82")),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": is not in PEM format (no -----BEGIN line)',
    ),
    "certificate cut off": (
        lambda folder, good: having(good, certificate=written(folder / "x", PEM + PEM[:300])),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": is cut off: the PEM block of line 11 has no end',
    ),
    "certificate of a version that is none": (
        lambda folder, good: having(good, certificate=written(folder / "x", of_no_version())),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": certificate 1 (line 1) cannot be parsed: there is no version 9 of X.509',
    ),
    "certificate file with a key alone": (
        lambda folder, good: having(good, certificate=folder / "mx.key"),
        "TLS_Certificate",
        'TLS_Certificate "{}/mx.key": holds no certificate',
    ),
    "certificate damaged": (
        lambda folder, good: having(good, certificate=written(folder / "x", PEM + damaged(PEM))),
        "TLS_Certificate",
        'TLS_Certificate "{}/x": certificate 2 (line 11) cannot be parsed: *',
    ),
    "key missing": (
        lambda folder, good: having(good, key=folder / "none.key"),
        "TLS_Key",
        'TLS_Key "{}/none.key": does not exist',
    ),
    "no key anywhere": (
        lambda folder, good: having(good, key=None),
        "TLS_Certificate",
        'TLS_Certificate "{}/mx.pem": holds no private key',
    ),
    "certificate in place of the key": (
        lambda folder, good: having(good, key=good.certificates[0].certificate),
        "TLS_Key",
        'TLS_Key "{}/mx.pem": holds no private key',
    ),
    "key of another certificate": (
        lambda folder, good: having(good, key=root().issue("other").write(folder, "other")[1]),
        "TLS_Key",
        'TLS_Key "{0}/other.key": the private key does not match the first certificate of "{0}/mx.pem"',
    ),
    "key encrypted": (
        lambda folder, good: having(good, key=encrypted(folder, PrivateFormat.PKCS8)),
        "TLS_Key",
        'TLS_Key "{}/encrypted.key": the private key of line 1 is encrypted, and no TLS_Key_Password_File is given',
    ),
    "key encrypted, older form": (
        lambda folder, good: having(good, key=encrypted(folder, PrivateFormat.TraditionalOpenSSL)),
        "TLS_Key",
        'TLS_Key "{}/encrypted.key": the private key of line 1 is encrypted, and no TLS_Key_Password_File is given',
    ),
    "key damaged": (
        lambda folder, good: having(
            good, key=written(folder / "x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        ),
        "TLS_Key",
        'TLS_Key "{}/x": the private key of line 1 cannot be parsed: *',
    ),
    "no client CA in the bundle": (
        lambda folder, good: evolve(good, client_ca=written(folder / "x", b"# none yet\n")),
        "TLS_Client_CA",
        'TLS_Client_CA "{}/x": is not in PEM format (no -----BEGIN line)',
    ),
    "one bad client CA": (
        lambda folder, good: evolve(good, client_ca=written(folder / "x", PEM + damaged(PEM) + PEM)),
        "TLS_Client_CA",
        'TLS_Client_CA "{}/x": certificate 2 (line 11) cannot be parsed: *',
    ),
    "ciphers select nothing": (
        lambda folder, good: evolve(good, ciphers="BOGUS"),
        "TLS_Ciphers",
        'TLS_Ciphers: "BOGUS" selects nothing (no cipher match)',
    ),
    "no such TLS 1.3 suite": (
        lambda folder, good: evolve(good, ciphers="DEFAULT:TLS_BOGUS"),
        "TLS_Ciphers",
        'TLS_Ciphers: "DEFAULT:TLS_BOGUS" selects nothing (no cipher match)',
    ),
    "ciphers empty": (lambda folder, good: evolve(good, ciphers=" "), "TLS_Ciphers", "TLS_Ciphers: is empty"),
    "ciphers not ASCII": (lambda folder, good: evolve(good, ciphers="HÖCH"), "TLS_Ciphers", "TLS_Ciphers: *"),
    "GnuTLS priorities": (
        lambda folder, good: evolve(good, ciphers="NORMAL:-VERS-TLS1.0"),
        "TLS_Ciphers",
        'TLS_Ciphers: "NORMAL:-VERS-TLS1.0" is a GnuTLS priority string; *',
    ),
    "key too weak": (
        lambda folder, _: weak(folder),
        "TLS_Certificate",
        'TLS_Certificate "{}/w.pem": is refused by OpenSSL: ee key too small',
    ),
}


@pytest.mark.parametrize(("wrong", "option", "text"), WRONG.values(), ids=WRONG)
def test_one_clear_line(wrong: Wrong, option: str, text: str, good: TLSSettings, tmp_path: Path) -> None:
    settings = wrong(tmp_path, good)
    with pytest.raises(MaterialError) as failure:
        ContextStore().prepare(settings)
    expected = text.format(tmp_path)
    assert failure.value.option == option
    if expected.endswith("*"):
        assert str(failure.value).startswith(expected[:-1])
    else:
        assert str(failure.value) == expected
    assert "\n" not in str(failure.value)
    assert failure.value.__cause__ is None


def pem(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, encodebytes(der), label)


def test_ciphers_whose_names_only_look_like_gnutls(good: TLSSettings) -> None:
    load_material(evolve(good, ciphers="HIGH:!aNULL:-SHA1"))
    load_material(evolve(good, ciphers="DEFAULT@SECLEVEL=2"))


def test_files_are_not_read_again(good: TLSSettings) -> None:
    material = load_material(good)
    for path in material.files:
        path.unlink()
    build_context(material)
