"""AUTH in sessions: the clients that are accepted, the replies and delays of failures, and their events."""

import base64
import hashlib
import hmac
from itertools import pairwise
from pathlib import Path

import trio
import trio.testing
from auth_site import PASSWORD, USER, Site, serving

from triosmtp import DONE, AuthAttempt, Policy, Reject, Session
from triosmtp.event import AuthAttempted, Refused
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONF = """
Banner_Hostname = "mx.example.com"
{more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN LOGIN CRAM-MD5" ) }} }}
"""


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def plain(user: str = USER, secret: str = PASSWORD, actor: str = "") -> str:
    return b64(f"{actor}\0{user}\0{secret}".encode())


async def hello(server: MemoryServer) -> ScriptedClient:
    client = server.connect()
    await client.read()
    await client.command("EHLO x")
    return client


async def encrypted(site: Site, certificate: str = "") -> tuple[ScriptedClient, list[str]]:
    client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
    await client.read()
    await client.command("EHLO x")
    await client.starttls(site.context(certificate))
    answer = await client.command("EHLO x")
    return client, next((line.split()[1:] for line in answer.lines if line.startswith("AUTH")), [])


async def test_plaintext_mechanisms_are_not_offered_before_tls(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        assert "AUTH SCRAM-SHA-256 DIGEST-MD5 CRAM-MD5" in (await client.command("EHLO x")).lines
        answer = await client.command(f"AUTH PLAIN {plain()}")
        assert str(answer) == "538 5.7.11 Encryption is required for this mechanism"
        await client.aclose()
        client, offered = await encrypted(site)
        assert offered == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]
        await client.aclose()
    async with serving(tmp_path, "Allow_Plaintext_Auth = true", "AUTH LOGIN PLAIN EXTERNAL") as site:
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        assert "AUTH PLAIN LOGIN" in (await client.command("EHLO x")).lines
        assert (await client.command(f"AUTH PLAIN {plain()}")).code == 235
        await client.starttls(site.context())
        assert (await client.command("EHLO x")).code == 250
        await client.command("MAIL FROM:<a@example.org>")  # what was proven before TLS is forgotten
        assert (await client.command("RCPT TO:<b@elsewhere.example>")).code == 550
        assert (await client.command("RSET")).code == 250
        assert (await client.command(f"AUTH PLAIN {plain()}")).code == 235
        await client.aclose()


async def test_external_requires_a_certificate_verified_in_this_handshake(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        for certificate in ("", "stranger"):
            client, offered = await encrypted(site, certificate)
            assert "EXTERNAL" not in offered
            assert (await client.command("AUTH EXTERNAL =")).code == 504
            await client.aclose()
        client, offered = await encrypted(site, "client")
        assert offered[0] == "EXTERNAL"
        assert (await client.command(f"AUTH EXTERNAL {b64(b'root')}")).code == 535
        assert (await client.command("AUTH EXTERNAL =")).code == 235
        await client.aclose()
    assert [(attempt.user, attempt.succeeded) for attempt in site.attempts] == [
        ("client.example", False), ("client.example", True),
    ]  # fmt: skip


NFD, NFC = "andre\u0301", "andr\u00e9"


async def test_a_user_may_name_itself_in_any_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{NFC}:y\n")
    more = f'Allow_Plaintext_Auth = true AuthPlainParameters = [ uri = "file://{path}" ] Auth_Failure_Delay = 0.001'
    for actor, user, code in (
        (NFD, NFD, 235), (NFC, NFD, 235), (NFD, NFC, 235), ("", NFD, 235), ("andre", NFD, 535), ("a\x07", NFD, 501),
        ("andr\u00c9", NFD, 535),
    ):  # fmt: skip
        async with open_memory_server(CONF.format(more=more)) as server:
            client = await hello(server)
            assert (await client.command(f"AUTH PLAIN {plain(user, 'y', actor)}")).code == code, (actor, user)


async def test_each_failure_has_its_reply_and_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, "Allow_Plaintext_Auth = true") as site:
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        await client.command("EHLO x")
        for initial, code in (
            (plain(secret="wrong"), 535), (plain("nobody"), 535), (plain(actor="root"), 535), (b64(b"no nuls"), 501),
            (b64(b"\0joe\0\xff"), 501), (b64(b"\0\0x"), 501), (plain("jo\x07e"), 501), (b64(b"a\0b\0c\0d"), 501),
        ):  # fmt: skip
            assert (await client.command(f"AUTH PLAIN {initial}")).code == code, initial
        assert (await client.command(f"AUTH PLAIN {plain(actor=USER)}")).code == 235  # acts for itself
        await client.aclose()
        client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        await client.command("EHLO x")
        assert (await client.command(f"AUTH CRAM-MD5 {b64(b'x')}")).code == 501  # the server begins
        assert (await client.command("AUTH PLAIN")).code == 334
        assert str(await client.command("*")) == "501 5.7.0 Authentication cancelled"
        assert (await client.command("AUTH PLAIN")).code == 334
        assert (await client.command("MAIL FROM:<>")).code == 501
        assert (await client.command("NOOP")).code == 250
        await client.aclose()
    reasons = [attempt.reason for attempt in site.attempts if not attempt.succeeded]
    assert reasons[:3] == [
        "wrong user or password",
        "wrong user or password",
        "the authorization identity is that of another user",
    ]
    assert reasons[-1] == "cancelled"
    assert {attempt.user for attempt in site.attempts} == {USER, "nobody", ""}


async def test_a_proof_is_valid_once(tmp_path: Path) -> None:
    async with serving(tmp_path, auth="AUTH CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256") as site:

        async def cram(client: ScriptedClient, answer: str | None) -> tuple[int, str]:
            challenge = base64.b64decode((await client.command("AUTH CRAM-MD5")).text)
            proof = hmac.new(PASSWORD.encode(), challenge, hashlib.md5).hexdigest()
            answer = answer or b64(f"{USER} {proof}".encode())
            return (await client.command(answer)).code, answer

        first, second = [ScriptedClient(await trio.open_tcp_stream("127.0.0.1", site.starttls)) for _ in range(2)]
        for client in (first, second):
            await client.read()
            await client.command("EHLO x")
        code, said = await cram(first, None)
        assert code == 235
        assert (await cram(second, said))[0] == 535
        digest = await client.command("AUTH DIGEST-MD5")
        assert b'realm="example.com"' in base64.b64decode(digest.text)
        wrong = b'username="joe",nonce="x",cnonce="y",nc=00000001,digest-uri="smtp/x",response=00'
        assert (await client.command(b64(wrong))).code == 535
        for junk in (b"", b"a", b"username=joe,username=joe", b'username="joe'):
            await client.command("AUTH DIGEST-MD5")
            assert (await client.command(b64(junk))).code == 501
        for junk in (b"x", b"n,,x", b"n,,n=joe", b"p=tls-exporter,,n=joe,r=x", b"n,,n=a=b,r=x"):
            assert (await client.command(f"AUTH SCRAM-SHA-256 {b64(junk)}")).code in {501, 535}
        await first.aclose()
        await second.aclose()


async def test_failures_are_delayed_counted_and_reported(autojump_clock: trio.testing.MockClock) -> None:
    more = "Always_Deny = true Always_Allow = true Allow_Plaintext_Auth = true Auth_Failure_Delay = 2"
    async with open_memory_server(CONF.format(more=more)) as server:
        client = await hello(server)
        times, codes = [trio.current_time()], []
        for _ in range(3):
            answer = await client.command(f"AUTH PLAIN {plain()}")
            codes.append(answer.code)
            times.append(trio.current_time())
        assert await client.read_eof() == b""
    assert codes == [535, 535, 421]
    waited = [round(after - before) for before, after in pairwise(times)]
    assert waited == [2, 4, 8]
    attempts = [event for event in server.events if isinstance(event, AuthAttempted)]
    assert [(attempt.user, attempt.decided_by) for attempt in attempts] == [(USER, "Always_Deny")] * 3
    assert [event.phase for event in server.events if isinstance(event, Refused)] == ["auth"] * 3


class Doorkeeper(Policy):
    """Knows one user, and one whom it will not have."""

    def __init__(self) -> None:
        self.asked: list[AuthAttempt] = []

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> object:  # type: ignore[override]
        self.asked.append(attempt)
        if attempt.user == "banned":
            raise Reject(535, "5.7.8", "go away")
        return DONE if attempt.password == "sesame" else None


async def test_only_policy_decides_without_a_file() -> None:
    policy = Doorkeeper()
    async with open_memory_server(
        CONF.format(more="Allow_Plaintext_Auth = true Auth_Failure_Delay = 0.001 Max_Auth_Failures = 0"), policy=policy
    ) as server:
        client = await hello(server)
        assert (await client.command(f"AUTH PLAIN {plain('x', 'wrong')}")).code == 535
        assert str(await client.command(f"AUTH PLAIN {plain('banned', 'sesame')}")) == "535 5.7.8 go away"
        assert (await client.command("AUTH CRAM-MD5")).code == 504  # nothing to check it against
        assert (await client.command(f"AUTH PLAIN {plain('x', 'sesame')}")).code == 235
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
        assert (await client.command("RCPT TO:<b@elsewhere.example>")).code == 250
    assert "sesame" not in repr(policy.asked)
    passed = [event for event in server.events if isinstance(event, AuthAttempted) and event.succeeded]
    assert [(event.user, event.decided_by) for event in passed] == [("x", "python:Doorkeeper")]


async def test_policy_may_refuse_a_proven_user(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("banned:x\njoe:y\n")
    more = f'Allow_Plaintext_Auth = true AuthPlainParameters = [ uri = "file://{path}" ] Auth_Failure_Delay = 0.001'
    async with open_memory_server(CONF.format(more=more), policy=Doorkeeper()) as server:
        client = await hello(server)
        assert (await client.command(f"AUTH PLAIN {plain('banned', 'x')}")).code == 535
        path.unlink()
        assert (await client.command(f"AUTH PLAIN {plain('joe', 'y')}")).code == 454
        path.write_text("joe:z\n")  # the file is read again
        client = await hello(server)
        assert (await client.command(f"AUTH PLAIN {plain('joe', 'y')}")).code == 535
        assert (await client.command(f"AUTH LOGIN {b64(b'joe')}")).code == 334
        assert (await client.command(b64(b"z"))).code == 235
