"""The mechanisms of AUTH that are offered."""

from pathlib import Path

import pytest
import trio
import trio.testing
from auth_site import EVERY, serving

from triosmtp import DONE, AuthAttempt, Policy, Session, parse_config
from triosmtp.auth import hash_password
from triosmtp.commands.check_command import check_config
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.errors import Severity
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

ARGON2 = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ"


SCRAM = hash_password("x", "scram-sha-256")


CONF = """
Banner_Hostname = "mx.example.com"
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}"
Allow_Plaintext_Auth = true
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
AuthCramMD5Parameters = [ uri = "file://{folder}/passwords" ]
AuthDigestMD5Parameters = [ uri = "{digests}://{folder}/{digests}" realm = "r" ]
{more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "{every}" ) }} }}
"""


def conf(folder: Path, passwords: str, digests: str = "", more: str = "") -> str:
    path = folder / "passwords"
    path.write_text(passwords)
    path.chmod(0o600)
    digest = folder / "digest"
    digest.write_text(digests)
    digest.chmod(0o600)
    if not digests:
        digest.unlink()
        (folder / "file").unlink(missing_ok=True)
        (folder / "file").symlink_to("passwords")
    return CONF.format(folder=folder, digests="digest" if digests else "file", more=more, every=EVERY)


async def offered(server: MemoryServer) -> list[str]:
    client = server.connect()
    await client.read()
    answer = await client.command("EHLO x")
    return next((line.split()[1:] for line in answer.lines if line.startswith("AUTH")), [])


@pytest.mark.parametrize(
    ("passwords", "digests", "expected"),
    [
        (f"jane:{ARGON2}\n", "", "PLAIN LOGIN"),
        (f"jane:{ARGON2}\njoe:{SCRAM}\n", "", "SCRAM-SHA-256 PLAIN LOGIN"),
        (f"jane:{ARGON2}\njoe:x\n", "", "SCRAM-SHA-256 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN"),
        (f"jane:{ARGON2}\n", f"joe:r:{'a' * 32}\n", "DIGEST-MD5 PLAIN LOGIN"),
        (f"jane:{ARGON2}\n", f"joe:another:{'a' * 32}\n", "PLAIN LOGIN"),
        ("# nobody yet\n", "", ""),
    ],
)
async def test_a_mechanism_that_no_user_can_use_is_not_offered(
    tmp_path: Path, passwords: str, digests: str, expected: str
) -> None:
    async with open_memory_server(conf(tmp_path, passwords, digests)) as server:
        assert await offered(server) == expected.split()


@pytest.fixture
def every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triosmtp.auth.password_file._CHECK_INTERVAL", 0.0)


async def test_a_file_is_looked_at_once_a_second(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(conf(tmp_path, "")) as server:
        assert await offered(server) == []
        (tmp_path / "passwords").write_text(f"jane:{ARGON2}\n")
        assert await offered(server) == []
        mock_clock.jump(1)
        assert await offered(server) == ["PLAIN", "LOGIN"]


@pytest.mark.usefixtures("every_look")
async def test_the_offered_mechanisms_follow_the_file(tmp_path: Path) -> None:
    async with open_memory_server(conf(tmp_path, "")) as server:
        assert await offered(server) == []
        (tmp_path / "passwords").write_text(f"jane:{SCRAM}\n")
        assert await offered(server) == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        (tmp_path / "passwords").write_text(f"jane:{ARGON2}\n")
        assert await offered(server) == ["PLAIN", "LOGIN"]
        (tmp_path / "passwords").unlink()  # until it is there again, what it held is what counts
        assert await offered(server) == ["PLAIN", "LOGIN"]


@pytest.mark.usefixtures("every_look")
async def test_a_mechanism_that_needs_tls_is_refused_with_538(tmp_path: Path) -> None:
    async with serving(tmp_path, auth="AUTH PLAIN") as site:
        for text, code in (("", 502), (f"jane:{ARGON2}\n", 538)):
            (tmp_path / "passwords").write_text(text)
            client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
            await client.read()
            await client.command("EHLO x")
            assert (await client.command("AUTH PLAIN")).code == code
            await client.aclose()


class Doorkeeper(Policy):
    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> object:  # type: ignore[override]
        return DONE


async def test_policy_and_always_options_offer_mechanisms(tmp_path: Path) -> None:
    async with open_memory_server(conf(tmp_path, ""), policy=Doorkeeper()) as server:
        assert await offered(server) == ["PLAIN", "LOGIN"]
    async with open_memory_server(conf(tmp_path, "", more="Always_Deny = true")) as server:
        assert await offered(server) == ["SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]


def test_check_reports_mechanisms_that_users_cannot_use(tmp_path: Path) -> None:
    def told(passwords: str, more: str = "", digests: str = "") -> list[str]:
        problems = check_config(parse_config(conf(tmp_path, passwords, digests, more)))
        assert {each.severity for each in problems} <= {"warning"}
        return [each.message.removeprefix("SMTP_Extensions: ") for each in problems if "AUTH" in each.message]

    file = f'"{tmp_path}/passwords"'
    every = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5"]
    alias = {"DIGEST-MD5": f'"{tmp_path}/file"'}
    external = "AUTH EXTERNAL is not offered: nothing to check it against"
    assert told(f"jane:{ARGON2}\n") == [
        external,
        *(f"AUTH {m} is not offered: it can use no password of {alias.get(m, file)}" for m in every),
    ]
    assert told(f"jane:{ARGON2}\njoe:x\n", 'AuthExternalParameters = [ map = "dns" ]') == [
        "AUTH EXTERNAL is never offered: no client certificate verifies without TLS_Client_CA",
        *(f"AUTH {m}: only 1 of 2 users of {alias.get(m, file)} can use it" for m in every),
    ]
    assert told("joe:x\n") == [external]
    assert told("", "Always_Deny = true") == [external]


def test_check_reports_malformed_lines(tmp_path: Path) -> None:
    config = parse_config(conf(tmp_path, "joe:x\nnonsense\n", f"joe:r:{'a' * 32}\njoe:r:a\n"))
    found = [each.message for each in check_config(config) if each.severity is Severity.ERROR]
    assert found == [
        f'AuthPlainParameters: "{tmp_path}/passwords" line 2: expected user:password',
        f'AuthDigestMD5Parameters: "{tmp_path}/digest" line 2: expected user:realm:hash, an MD5 in hexadecimal',
    ]
    assert not [
        each for each in config_warnings(config) if each.severity is Severity.ERROR
    ]  # it is served nevertheless


@pytest.mark.parametrize("more", ["", "Always_Allow = true", "Always_Deny = true"])
@pytest.mark.parametrize("policy", [False, True])
async def test_a_mechanism_of_a_momentum_module_is_not_offered(tmp_path: Path, more: str, policy: bool) -> None:
    text = conf(tmp_path, "joe:x\n", more=f'{more} AuthPlainParameters = [ uri = "radius://" ]')
    async with open_memory_server(parse_config(text), policy=[Doorkeeper()] if policy else []) as server:
        # LOGIN and SCRAM use AuthPlainParameters if they have no parameters of their own.
        assert await offered(server) == ["DIGEST-MD5", "CRAM-MD5"]


def test_check_says_which_mechanisms_a_service_cannot_have(tmp_path: Path) -> None:
    text = f"""
        Relay_Domains = ( "example.com" ) Deliver_To = "discard:" Spool_Directory = "{tmp_path}" {{more}}
        ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "{EVERY} XOAUTH2" ) }} }}
    """

    def warnings(more: str) -> list[str]:
        found = config_warnings(parse_config(text.replace("{more}", more)))
        return [each.message.removeprefix("SMTP_Extensions: AUTH ") for each in found if "AUTH" in each.message]

    reason = "is not offered: nothing to check it against"
    assert warnings('Auth_Service = "dovecot:/run/auth"') == [
        f"EXTERNAL {reason}",
        "SCRAM-SHA-256-PLUS is not offered: the protocol of the Auth_Service has no channel bindings",
    ]
    assert warnings("Always_Deny = true") == [f"EXTERNAL {reason}", f"XOAUTH2 {reason}"]
