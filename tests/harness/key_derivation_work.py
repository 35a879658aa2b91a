"""Count key derivations."""

import pytest

from triosmtp.auth import PasswordFile
from triosmtp.auth.password import ScramKeys, derive_scram_keys, hash_form, verify_password

PASSWORD = "correct horse"


class Work:
    """Records the hashes and keys that are computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        monkeypatch.setattr("triosmtp.auth.stored_credentials.verify_password", self.verify)
        monkeypatch.setattr("triosmtp.auth.stored_credentials.derive_scram_keys", self.derive)

    def verify(self, stored: str, given: str) -> bool:
        if hash_form(stored):
            self.done.append(hash_form(stored))
        return verify_password(stored, given)

    def derive(self, password: str, salt: bytes, iterations: int) -> ScramKeys:
        self.done.append(f"derive {iterations}")
        return derive_scram_keys(password, salt, iterations)

    def of(self, file: PasswordFile, user: str) -> list[list[str]]:
        secret = file.lookup(user)
        done = []
        for work in (lambda: secret.verify(PASSWORD), secret.derive):
            self.done.clear()
            work()
            done.append(sorted(self.done))
        return done
