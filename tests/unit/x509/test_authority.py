"""Authorities that issue certificates: for development, and for tests."""

import stat
from base64 import encodebytes
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tls_peers import root, settings_of

from triosmtp.tls import load_material
from triosmtp.x509.authority import Credential, write_development_set


def pem(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, encodebytes(der), label)


def test_development_set(tmp_path: Path) -> None:
    write_development_set(tmp_path)
    names = {path.name: path for path in tmp_path.iterdir()}
    assert set(names) == {"ca.pem", "server.pem", "server.key", "client.pem", "client.key"}
    for name, path in names.items():
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if name.endswith(".key") else 0o644)
    settings = settings_of(
        names["server.pem"], names["server.key"], client_ca=names["ca.pem"], request_certificate=True
    )
    assert load_material(settings).warnings == ()
    before = {name: path.read_bytes() for name, path in names.items()}
    write_development_set(tmp_path)
    assert before == {name: path.read_bytes() for name, path in names.items()}
    names["client.key"].unlink()
    write_development_set(tmp_path)
    assert names["ca.pem"].read_bytes() != before["ca.pem"]


def test_an_expired_development_set_is_renewed(tmp_path: Path) -> None:
    write_development_set(tmp_path)
    root().issue("localhost", not_after=datetime.now(UTC) + timedelta(hours=1)).write(tmp_path, "server")
    expiring = (tmp_path / "server.pem").read_bytes()
    write_development_set(tmp_path)
    assert (tmp_path / "server.pem").read_bytes() != expiring
    (tmp_path / "server.pem").write_text("nonsense")
    write_development_set(tmp_path)
    assert (tmp_path / "server.pem").read_bytes().startswith(b"-----BEGIN")


def test_a_key_file_is_never_readable_by_others(tmp_path: Path) -> None:
    (tmp_path / "mx.key").write_text("old")
    (tmp_path / "mx.key").chmod(0o666)
    credential: Credential = root().issue("mx")
    _, key = credential.write(tmp_path, "mx")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_bytes() == credential.key_pem


def test_revocation_list() -> None:
    leaf = root().issue("gone.example").certificate
    revoked = root().revocation_list([leaf])
    assert revoked.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
    assert revoked.is_signature_valid(root().key.public_key())
