"""Credentials of known and unknown users: the same work and the same look."""

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from key_derivation_work import PASSWORD, Work

from triosmtp.auth import PasswordFile, hash_password
from triosmtp.auth.password import hash_form

CHEAP = {
    "argon2": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "dearer": "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "scrypt": "$scrypt$ln=1,r=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "pbkdf2": "$pbkdf2-sha256$1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "scram": hash_password(PASSWORD, "scram-sha-256"),
    "text": PASSWORD,
}


@pytest.mark.parametrize(
    "stored", [*([each] for each in CHEAP), ["text", "argon2"], ["argon2", "text"], ["scram", "scrypt"], list(CHEAP)]
)
def test_every_attempt_takes_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Sequence[str]
) -> None:
    path = tmp_path / "passwords"
    path.write_text("".join(f"{each}:{CHEAP[each]}\n" for each in stored))
    file, work = PasswordFile(path), Work(monkeypatch)
    expected = sorted(form for each in stored if (form := hash_form(CHEAP[each])))
    derived = ["derive 15000"] if "text" in stored else []
    assert [work.of(file, user) for user in (*stored, "nobody")] == [[expected, derived]] * (len(stored) + 1)
    right = {each for each in (*stored, "nobody") if file.lookup(each).verify(PASSWORD)}
    assert right == {"scram", "text"} & {*stored}
    assert not any(file.lookup(user).verify("wrong") for user in (*stored, "nobody"))


def test_mock_credentials_look_like_the_users_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    other = base64.b64encode(b"k" * 32).decode()
    record = f"SCRAM-SHA-256$4096:{base64.b64encode(b's' * 24).decode()}${other}:{other}"
    users = ["nobody", "argon2", *map(str, range(64))]

    def shown(*lines: str) -> set[tuple[int, int]]:
        path.write_text("\n".join(lines))
        file = PasswordFile(path, key=b"k")
        salts = {user: file.lookup(user).salt for user in users}
        assert salts == {user: PasswordFile(path, key=b"k").lookup(user).salt for user in users}
        assert salts["1"] != PasswordFile(path, key=b"l").lookup("1").salt
        assert len({salt for salt, _ in salts.values()}) == len(users)
        assert not any(file.lookup(user).proves_by_scram for user in users)
        return {(iterations, len(salt)) for salt, iterations in salts.values()}

    assert shown("text:x") == {(15_000, 16)}
    assert shown(f"joe:{record}", f"argon2:{CHEAP['argon2']}") == {(4096, 24)}
    assert shown(f"joe:{record}", "text:x") == {(4096, 24), (15_000, 16)}
