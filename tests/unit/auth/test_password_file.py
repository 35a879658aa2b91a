"""Password files: malformed lines and files, digests, permissions."""

import hashlib
import stat
from pathlib import Path

import pytest

from triosmtp.auth import AuthFileError, PasswordFile, hash_password


@pytest.mark.parametrize(
    ("text", "digests", "cleartext", "said"),
    [
        ("joe", False, None, "line 1: expected user:password"),
        ("# x\n:y", False, None, "line 2: expected user:password"),
        ("j\x07oe:y", False, None, "line 1: a name or password with characters that SASLprep forbids"),
        ("joe:y\x07", False, None, "line 1: a name or password with characters that SASLprep forbids"),
        ("joe:$scrypt$x", False, None, "line 1: a malformed hash"),
        ("joe:$scrypt$ln=0,r=8,p=1$YWJj$YWJj", False, None, "line 1: a malformed scrypt hash"),
        ("joe:$scrypt$ln=40,r=8,p=1$YWJj$YWJj", False, None, "line 1: a scrypt hash that needs more than 256 MiB"),
        ("joe:$pbkdf2-sha256$0$YWJj$YWJj", False, None, "line 1: a malformed pbkdf2 hash"),
        ("joe:$argon2id$x", False, None, "line 1: a malformed hash"),
        ("joe:$argon2id$v=19$m=8,t=1,p=1$YWJj$YWJj", False, None, "line 1: a malformed argon2 hash"),
        ("joe:SCRAM-SHA-256$1:a$b:c", False, None, "line 1: a malformed SCRAM"),
        ("joe:SCRAM-SHA-256$4096:YWJj$YWJj:YWJj", False, None, "line 1: a malformed SCRAM"),
        ("joe:x", False, False, "line 1: not a hash, and stored_cleartext is false"),
        ("joe:$argon2id$a$b$c$d", False, True, "line 1: a hash, and stored_cleartext is true"),
        ("joe:realm:xyz", True, None, "line 1: expected user:realm:hash"),
    ],
)
def test_a_malformed_line_is_skipped_and_reported(
    tmp_path: Path, text: str, digests: bool, cleartext: bool | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "passwords"
    path.write_text(text)
    file = PasswordFile(path, digests=digests, cleartext=cleartext)
    file.check()
    assert [fault.startswith(f'"{path}" {said}') for fault in file.faults] == [True]
    assert "xyz" not in str(file.faults)
    assert not file.users
    assert not caplog.messages
    good = f"jane:{hash_password('p', 'scram-sha-256')}" if cleartext is False else "jane:p"
    path.write_text(f"{text}\n{'jane:r:' + 'a' * 32 if digests else good}\n")
    assert file.lookup("jane").known
    assert not file.lookup("joe").known
    assert caplog.messages == [f"{file.faults[0]}: the line is skipped"]


def test_a_byte_order_mark_is_no_part_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("joe:x\n", "utf-8-sig")
    assert PasswordFile(tmp_path / "passwords").lookup("joe").verify("x")  # its names are prepared (RFC 4013)


def test_a_missing_or_malformed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    with pytest.raises(AuthFileError, match="No such file"):
        PasswordFile(path).check()
    path.write_bytes(b"joe:\xff")
    with pytest.raises(AuthFileError, match="not UTF-8"):
        PasswordFile(path).check()


def test_a_file_of_digests_and_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    digest = hashlib.md5(b"joe:r:x").hexdigest()
    path.write_text(f"joe:r:{digest}\n")
    path.chmod(0o644)
    file = PasswordFile(path, digests=True)
    assert file.lookup("joe").digest("joe", "r") == bytes.fromhex(digest)
    assert file.lookup("joe").digest("joe", "s") is None
    assert not file.lookup("joe").verify("x")
    exposed = [file.is_exposed]
    path.chmod(0o600)
    exposed.append(file.is_exposed)
    assert exposed == [True, False]
    assert not PasswordFile(tmp_path / "none").is_exposed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
