"""Nobody learns who is known here: not by what an attempt costs, nor by what it shows, nor by giving it up."""

import base64
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from triosmtp.auth import MockKey, PasswordFile, hash_password
from triosmtp.auth.password import ScramKeys, derive_scram_keys, hash_form, verify_password
from triosmtp.event import AuthAttempted
from triosmtp.testing import Client, MemoryServer, open_memory_server

PASSWORD = "correct horse"
CHEAP = {
    "argon2": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "dearer": "$argon2id$v=19$m=16,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "scrypt": "$scrypt$ln=1,r=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "pbkdf2": "$pbkdf2-sha256$1$c2FsdHNhbHQ$c2FsdHNhbHQ",
    "scram": hash_password(PASSWORD, "scram-sha-256"),
    "text": PASSWORD,
}


class Work:
    """What was computed."""

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


def test_the_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "var" / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert MockKey().get() != MockKey().get()
    assert not state.exists()
    key = MockKey(kept=True).get()
    assert len(key) == 32
    assert MockKey(kept=True).get() == key
    path = state / "mock_credentials.key"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (key, 0o600)
    assert list(state.iterdir()) == [path]
    assert not caplog.messages


def test_a_key_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = tmp_path / "mock_credentials.key"

    def refused(reason: str) -> None:
        key = MockKey(kept=True)
        handed = pickle.loads(pickle.dumps(key))  # before it was needed
        assert handed.get() == key.get() == pickle.loads(pickle.dumps(key)).get()
        assert reason in caplog.messages[-1]

    path.write_bytes(b"x" * 32)
    path.chmod(0o640)
    refused("accessible to others")
    path.chmod(0o600)
    path.write_bytes(b"x" * 31)
    refused("not 32 octets")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused("Too many levels of symbolic links")
    monkeypatch.setenv("STATE_DIRECTORY", str(path))
    refused("Not a directory")


CONF = """
Banner_Hostname = "mx.example.com"
Auth_Failure_Delay = 0.001
AuthPlainParameters = [ uri = "file://{path}" ]
Allow_Plaintext_Auth = true
{more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH SCRAM-SHA-256 LOGIN" ) }} }}
"""


async def hello(server: MemoryServer) -> Client:
    client = server.connect()
    await client.read()
    await client.command("EHLO x")
    return client


async def test_whoever_gives_up_after_a_look_up_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, work = tmp_path / "passwords", Work(monkeypatch)
    path.write_text("joe:x\n")
    async with open_memory_server(CONF.format(path=path, more="Max_Auth_Failures = 4")) as server:
        client = await hello(server)
        for user in ("joe", "nobody"):
            begin = f"AUTH SCRAM-SHA-256 {base64.b64encode(f'n,,n={user},r=x'.encode()).decode()}"
            assert (await client.command(begin)).code == 334
            assert str(await client.command("*")) == "501 5.7.0 Authentication cancelled"
            assert (await client.command(begin)).code == 334
            if user == "joe":
                assert (await client.command("no base64!")).code == 501
        assert str(await client.command("*")) == "421 4.7.0 Too many failed authentications"
        assert await client.read_eof() == b""
    attempts = [event for event in server.events if isinstance(event, AuthAttempted)]
    assert [(attempt.user, attempt.reason) for attempt in attempts] == [
        ("joe", "cancelled"), ("joe", "broken off"), ("nobody", "cancelled"), ("nobody", "cancelled"),
    ]  # fmt: skip
    assert not work.done


async def test_giving_up_is_slowed(autojump_clock: trio.testing.MockClock) -> None:
    conf = 'Always_Deny = true Auth_Failure_Delay = 2 Max_Auth_Failures = 0 SMTP_Extensions = ( "AUTH SCRAM-SHA-256" )'
    async with open_memory_server(f'{conf} ESMTP_Listener {{ Listen ":25" {{ }} }}') as server:
        client = await hello(server)
        for answer, code, waited in (("*", 501, 2), ("no base64!", 501, 0), ("*", 501, 4 + 8), ("", 501, 16)):
            began = trio.current_time()
            first = base64.b64encode(b"n,,n=joe,r=x").decode()
            assert (await client.command(f"AUTH SCRAM-SHA-256 {first}")).code == 334
            assert (await client.command(answer)).code == code
            assert round(trio.current_time() - began) == waited


async def test_whoever_gives_up_before_that_does_nothing_for_a_message(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("joe:x\n")
    async with open_memory_server(CONF.format(path=path, more="Max_Junk_Commands = 5")) as server:
        client = await hello(server)
        for _ in range(4):  # beside the EHLO
            assert (await client.command("AUTH LOGIN")).code == 334
            assert (await client.command("*")).code == 501
        assert (await client.command("AUTH LOGIN")).code == 421
