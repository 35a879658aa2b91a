"""Who gets in and who does not, whatever a client tries; what it costs; and what is told of it."""

import base64
import hashlib
import hmac
import re
import stat
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing
from auth_site import PASSWORD, USER, Site, serving

from triosmtp import DONE, AuthAttempt, Policy, Reject, Session
from triosmtp.auth import AuthFileError, IdentityMap, MalformedResponse, PasswordFile, SaslContext, hash_password
from triosmtp.auth.mechanism import MECHANISMS
from triosmtp.event import AuthAttempted, Refused
from triosmtp.testing import Client, MemoryServer, open_memory_server
from triosmtp.variables import TLSInfo

CONF = """
Banner_Hostname = "mx.example.com"
{more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN LOGIN CRAM-MD5" ) }} }}
"""


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def plain(user: str = USER, secret: str = PASSWORD, actor: str = "") -> str:
    return b64(f"{actor}\0{user}\0{secret}".encode())


async def hello(server: MemoryServer) -> Client:
    client = server.connect()
    await client.read()
    await client.command("EHLO x")
    return client


async def encrypted(site: Site, certificate: str = "") -> tuple[Client, list[str]]:
    client = Client(await trio.open_tcp_stream("127.0.0.1", site.starttls))
    await client.read()
    await client.command("EHLO x")
    await client.starttls(site.context(certificate))
    answer = await client.command("EHLO x")
    return client, next((line.split()[1:] for line in answer.lines if line.startswith("AUTH")), [])


async def test_nothing_readable_is_offered_before_tls(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        client = Client(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        assert "AUTH SCRAM-SHA-256 DIGEST-MD5 CRAM-MD5" in (await client.command("EHLO x")).lines
        answer = await client.command(f"AUTH PLAIN {plain()}")
        assert str(answer) == "538 5.7.11 Encryption is required for this mechanism"
        await client.aclose()
        client, offered = await encrypted(site)
        assert offered == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]
        await client.aclose()
    async with serving(tmp_path, "Allow_Plaintext_Auth = true", "AUTH LOGIN PLAIN EXTERNAL") as site:
        client = Client(await trio.open_tcp_stream("127.0.0.1", site.starttls))
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


async def test_external_is_for_certificates_of_this_handshake_that_verified(tmp_path: Path) -> None:
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


def test_who_a_certificate_stands_for(tmp_path: Path) -> None:
    tls = TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=True, client_certificate=b"x",
        client_subject_cn="cn", client_fingerprint_sha256="ab12", client_spki_sha256="cd",
        client_sans=("dns:*.example", "dns:a.example", "email:joe@example"),
    )  # fmt: skip
    assert [IdentityMap(kind).identify(tls) for kind in ("dns", "email", "subject_cn")] == [
        "a.example", "joe@example", "cn",
    ]  # fmt: skip
    file = tmp_path / "map"
    identities = IdentityMap(str(file))
    for line, who in (
        ("sha256:AB:12 one", "one"), ("spki:cd two", "two"), ("dns:A.example three", "three"), ("cn:other x", None),
        ("# cn:cn x", None), ("cn:cn four", "four"), ("email:joe@example five", "five"),
    ):  # fmt: skip
        file.write_text(f"{line}\n\n")
        identities._read = None
        assert identities.identify(tls) == who
    file.write_text("nonsense\n")
    with pytest.raises(AuthFileError, match="line 1: expected sha256:"):
        identities.check()
    unverified = TLSInfo(
        protocol="x", cipher="x", cipher_algbits=1, cipher_usebits=1, client_certificate=b"x", client_subject_cn="cn"
    )
    assert IdentityMap("subject_cn").identify(unverified) is None
    assert IdentityMap("subject_cn").identify(None) is None


def presented(cn: str = "cn", *sans: str) -> TLSInfo:
    return TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=True, client_certificate=b"x",
        client_subject_cn=cn, client_fingerprint_sha256="ab12", client_spki_sha256="cd", client_sans=sans,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "tls", "who"),
    [
        ("cn:bank", presented("ban\u212a"), None),
        ("cn:bank", presented("Bank"), None),
        ("cn:stra\u00dfe", presented("STRASSE"), None),
        ("cn:Bank", presented("Bank"), "x"),
        ("email:joe@example.org", presented("c", "email:Joe@example.org"), None),
        ("email:Joe@EXAMPLE.org", presented("c", "email:Joe@example.ORG"), "x"),
        ("email:joe@example.org", presented("c", "email:joe@example.org."), None),
        ("email:joe@bank.example", presented("c", "email:joe@ban\u212a.example"), None),
        ("dns:bank.example", presented("c", "dns:ban\u212a.example"), None),
        ("dns:BANK.example", presented("c", "dns:bank.EXAMPLE"), "x"),
        ("dns:a.b\u00fccher.example", presented("c", "dns:a.xn--bcher-kva.example"), "x"),
        ("dns:a.xn--bcher-kva.example", presented("c", "dns:a.b\u00fccher.example"), None),
        ("dns:a.example", presented("c", "uri:a.example"), None),
        ("sha256:AB12", presented("c"), "x"),
        ("cn:dns:a.example", presented("c", "dns:a.example"), None),
    ],
)
def test_nothing_but_domains_is_folded(tmp_path: Path, line: str, tls: TLSInfo, who: str | None) -> None:
    (tmp_path / "map").write_text(f"{line} x\n")
    assert IdentityMap(str(tmp_path / "map")).identify(tls) == who


@pytest.mark.parametrize(
    "line",
    ["dns:a.example.", "dns:*.a.example", "dns:exam\u00adple.org", "dns:", "email:joe", "email:joe@a b", "email:@a",
     "email:joe@", "sha256:xyz", "spki:", "cn:", "dns:ban\u212a.example"],
)  # fmt: skip
def test_what_cannot_be_compared_is_an_error_of_the_map(tmp_path: Path, line: str) -> None:
    (tmp_path / "map").write_text(f"cn:a b\n{line} x\n")
    with pytest.raises(AuthFileError, match="line 2: "):
        IdentityMap(str(tmp_path / "map")).check()


def test_a_domain_that_a_certificate_stands_for_is_told_by_its_key() -> None:
    tls = presented("CN", "dns:MX.Example.ORG", "email:Joe@Example.ORG")
    assert [IdentityMap(kind).identify(tls) for kind in ("dns", "email", "subject_cn")] == [
        "mx.example.org", "Joe@example.org", "CN",
    ]  # fmt: skip


NFD, NFC = "andre\u0301", "andr\u00e9"


async def test_a_user_acts_for_itself_in_whatever_form_it_is_written(tmp_path: Path) -> None:
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


def test_a_certificate_acts_for_itself_in_whatever_form_it_is_written() -> None:
    def claim(identity: str, wanted: str) -> bool:
        exchange = MECHANISMS["EXTERNAL"].begin(SaslContext(hostname="h", identity=identity), wanted.encode())
        with pytest.raises(StopIteration) as stop:
            next(exchange)
        assert stop.value.value.user == identity
        proven: bool = stop.value.value.proven
        return proven

    assert claim(NFC, NFD)
    assert claim(NFD, NFC)
    assert claim("a", "")
    assert not claim("a", "A")
    assert claim("ban\u212a", "ban\u212a")
    with pytest.raises(MalformedResponse):
        claim("a", "a\x07")


async def test_every_way_to_fail(tmp_path: Path) -> None:
    async with serving(tmp_path, "Allow_Plaintext_Auth = true") as site:
        client = Client(await trio.open_tcp_stream("127.0.0.1", site.starttls))
        await client.read()
        await client.command("EHLO x")
        for initial, code in (
            (plain(secret="wrong"), 535), (plain("nobody"), 535), (plain(actor="root"), 535), (b64(b"no nuls"), 501),
            (b64(b"\0joe\0\xff"), 501), (b64(b"\0\0x"), 501), (plain("jo\x07e"), 501), (b64(b"a\0b\0c\0d"), 501),
        ):  # fmt: skip
            assert (await client.command(f"AUTH PLAIN {initial}")).code == code, initial
        assert (await client.command(f"AUTH PLAIN {plain(actor=USER)}")).code == 235  # acts for itself
        await client.aclose()
        client = Client(await trio.open_tcp_stream("127.0.0.1", site.starttls))
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


async def test_a_proof_serves_once(tmp_path: Path) -> None:
    async with serving(tmp_path, auth="AUTH CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256") as site:

        async def cram(client: Client, answer: str | None) -> tuple[int, str]:
            challenge = base64.b64decode((await client.command("AUTH CRAM-MD5")).text)
            proof = hmac.new(PASSWORD.encode(), challenge, hashlib.md5).hexdigest()
            answer = answer or b64(f"{USER} {proof}".encode())
            return (await client.command(answer)).code, answer

        first, second = [Client(await trio.open_tcp_stream("127.0.0.1", site.starttls)) for _ in range(2)]
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


def scram_client(first: str, server_first: str, binding: bytes = b"") -> str:
    fields = dict(part.split("=", 1) for part in server_first.split(","))
    header = first[: first.index("n=")]
    bare = first[len(header) :]
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without = f"c={b64(header.encode() + binding)},r={fields['r']}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{server_first},{without}".encode(), "sha256")
    return f"{without},p={b64(bytes(a ^ b for a, b in zip(key, signature, strict=True)))}"


@pytest.mark.parametrize(
    ("name", "flag", "plus", "mine", "theirs", "reason"),
    [
        ("SCRAM-SHA-256", "n", False, b"", b"", ""),
        ("SCRAM-SHA-256", "y", False, b"", b"", ""),
        ("SCRAM-SHA-256", "y", True, b"", b"", "on its way to the client"),  # who took -PLUS out of what we offered
        ("SCRAM-SHA-256", "p=tls-exporter", True, b"k", b"k", "is not available"),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", True, b"k", b"k", ""),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", True, b"k", b"l", "does not match"),  # there are two TLS connections
        ("SCRAM-SHA-256-PLUS", "p=tls-nonsense", True, b"k", b"k", "is not available"),
        ("SCRAM-SHA-256-PLUS", "n", True, b"k", b"", "no channel binding"),
        ("SCRAM-SHA-256-PLUS", "y", True, b"k", b"", "no channel binding"),
    ],
)
def test_scram_binds_to_its_channel(
    tmp_path: Path, name: str, flag: str, plus: bool, mine: bytes, theirs: bytes, reason: str
) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"joe:{PASSWORD}\n")
    file = PasswordFile(path)
    context = SaslContext(hostname="h", channel_binding=lambda _: mine, offers_plus=plus)
    first = f"{flag},,n=joe,r=nonce"
    exchange = MECHANISMS[name].begin(context, first.encode())
    claim = None
    try:
        lookup = next(exchange)
        assert lookup.user == "joe"  # type: ignore[union-attr]
        challenge = exchange.send(file.lookup("joe"))
        derivation = exchange.send(scram_client(first, challenge.data.decode(), theirs).encode())  # type: ignore[union-attr]
        exchange.send(derivation.credentials.derive())  # type: ignore[union-attr]
    except StopIteration as stop:
        claim = stop.value
    assert claim is not None
    assert claim.proven is not bool(reason)
    assert claim.last.startswith(b"v=") is not bool(reason)
    assert claim.reason.endswith(reason)


@pytest.mark.parametrize(("actor", "told"), [(NFD, NFC), (NFC, NFC), ("root", "root")])
def test_digest_tells_prepared_names(tmp_path: Path, actor: str, told: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{NFC}:{PASSWORD}\n")
    exchange = MECHANISMS["DIGEST-MD5"].begin(SaslContext(hostname="h"), None)
    nonce = re.findall(r'nonce="([^"]+)"', next(exchange).data.decode())[0]  # type: ignore[union-attr]

    def md5(text: bytes) -> bytes:
        return hashlib.md5(text).hexdigest().encode()

    secret = hashlib.md5(f"{NFC}:h:{PASSWORD}".encode()).digest()
    a1 = md5(secret + f":{nonce}:c:{actor}".encode())
    response = md5(b":".join((a1, nonce.encode(), b"00000001", b"c", b"auth", md5(b"AUTHENTICATE:smtp/h")))).decode()
    answer = f'username="{NFC}",nonce="{nonce}",cnonce="c",nc=00000001,digest-uri="smtp/h",response={response},'
    lookup = exchange.send(f'{answer}realm="h",authzid="{actor}"'.encode())
    secrets = PasswordFile(path).lookup(lookup.user)  # type: ignore[union-attr]
    with pytest.raises(StopIteration) as stop:
        exchange.send(secrets)
    assert (stop.value.value.user, stop.value.value.authorization, stop.value.value.proven) == (NFC, told, True)


@pytest.mark.parametrize(("actor", "told"), [(NFD, NFC), (NFC, NFC), ("", ""), ("root", "root")])
def test_scram_tells_prepared_names(tmp_path: Path, actor: str, told: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"{NFC}:{PASSWORD}\n")
    file = PasswordFile(path)
    first = f"n,{f'a={actor}' if actor else ''},n={NFD},r=nonce"
    exchange = MECHANISMS["SCRAM-SHA-256"].begin(SaslContext(hostname="h"), first.encode())
    lookup = next(exchange)
    challenge = exchange.send(file.lookup(lookup.user))  # type: ignore[union-attr]
    derivation = exchange.send(scram_client(first, challenge.data.decode()).encode())  # type: ignore[union-attr]
    keys = derivation.credentials.derive()  # type: ignore[union-attr]
    with pytest.raises(StopIteration) as stop:
        exchange.send(keys)
    assert (stop.value.value.user, stop.value.value.authorization, stop.value.value.proven) == (NFC, told, True)


async def test_failures_are_slowed_counted_and_told(autojump_clock: trio.testing.MockClock) -> None:
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


async def test_policy_alone_decides_where_there_is_no_file() -> None:
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


async def test_policy_may_refuse_who_proved_itself(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("banned:x\njoe:y\n")
    more = f'Allow_Plaintext_Auth = true AuthPlainParameters = [ uri = "file://{path}" ] Auth_Failure_Delay = 0.001'
    async with open_memory_server(CONF.format(more=more), policy=Doorkeeper()) as server:
        client = await hello(server)
        assert (await client.command(f"AUTH PLAIN {plain('banned', 'x')}")).code == 535
        path.unlink()
        assert (await client.command(f"AUTH PLAIN {plain('joe', 'y')}")).code == 454
        path.write_text("joe:z\n")  # it is read anew
        client = await hello(server)
        assert (await client.command(f"AUTH PLAIN {plain('joe', 'y')}")).code == 535
        assert (await client.command(f"AUTH LOGIN {b64(b'joe')}")).code == 334
        assert (await client.command(b64(b"z"))).code == 235


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
def test_lines_that_are_wrong_lock_out_nobody_else(
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


def test_a_byte_order_mark_is_part_of_no_name(tmp_path: Path) -> None:
    for name, text in (("passwords", "joe:x\n"), ("map", "cn:cn joe\n")):
        (tmp_path / name).write_text(text, "utf-8-sig")
    assert PasswordFile(tmp_path / "passwords").lookup("joe").verify("x")  # its names are prepared (RFC 4013)
    assert IdentityMap(str(tmp_path / "map")).identify(presented("cn")) == "joe"


def test_files_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    with pytest.raises(AuthFileError, match="No such file"):
        PasswordFile(path).check()
    path.write_bytes(b"joe:\xff")
    with pytest.raises(AuthFileError, match="not UTF-8"):
        PasswordFile(path).check()


def test_a_file_of_digests_and_who_can_read_it(tmp_path: Path) -> None:
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
