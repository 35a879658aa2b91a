"""No secret is ever shown: all output is searched for every secret that a configuration can have."""

import base64
import json
import logging
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from command_line import run
from listen_server import connect, serving
from nats_accounts import Nkey, write_credentials
from nats_servers import OBJECT_BUCKET, STREAM, JetStream, NATSProcess, run_nats
from redis_server import RedisServer, running_redis
from status_server import get
from status_server import serving as status_serving
from tls_peers import root

from triosmtp.event import MessageRefused, Refused, ServerEvent
from triosmtp.logs.event_fields import LINES

PASSWORD = "Gehe!m-delivery-0815"
WRONG = "Falsch-delivery-4711"
USER_PASSWORD = "user-secret-2342"
TOKEN = "status-token-secret-161803"
SIGNING = "whsec_" + base64.b64encode(b"signing-secret-271828-xyz").decode()
REDIS_PASSWORD = "redis-secret-141421"
RSPAMD_PASSWORD = "rspamd-secret-173205"
SECRETS = [
    PASSWORD, WRONG, USER_PASSWORD, TOKEN, SIGNING, "signing-secret-271828-xyz", REDIS_PASSWORD, RSPAMD_PASSWORD,
]  # fmt: skip
"""And those in .creds files of NATS, which tests make."""


def forms(secret: str) -> Iterator[bytes]:
    """Yield the forms in which a secret may appear: as it is, and as AUTH sends it."""
    octets = secret.encode()
    yield octets
    for text in (octets, b"\0front\0" + octets, b"front\0front\0" + octets):
        yield base64.b64encode(text).rstrip(b"=")


def assert_clean(where: str, output: bytes | str) -> None:
    octets = output if isinstance(output, bytes) else output.encode()
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in octets, f"{secret} is in {where}"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Write every kind of file with a secret, and the certificate of the hop."""
    write(tmp_path / "right", PASSWORD)
    write(tmp_path / "wrong", WRONG)
    write(tmp_path / "users", f"front:{PASSWORD}\njane:{USER_PASSWORD}\n")
    write(tmp_path / "token", TOKEN)
    write(tmp_path / "signing", SIGNING)
    write(tmp_path / "redis", REDIS_PASSWORD)
    write(tmp_path / "rspamd", RSPAMD_PASSWORD)
    lines = write_credentials(tmp_path / "nats.creds", Nkey("A")).read_text().splitlines()
    SECRETS.extend(line for line in lines if len(line) > 40 and line.isascii() and "-" * 5 not in line)
    certificate, key = root().issue("hop.example", dns=["hop.example"], usage=["server"]).write(tmp_path, "hop")
    (tmp_path / "ca.pem").write_bytes(root().certificate_pem)
    (tmp_path / "hop.conf").write_text(f"""
        Relay_Domains = ( "example.com" ) Deliver_To = "discard:"
        TLS_Certificate = "{certificate}" TLS_Key = "{key}"
        ESMTP_Listener {{ SMTP_Extensions = ( STARTTLS "AUTH PLAIN" ENHANCEDSTATUSCODES )
            AuthPlainParameters = [ uri = "file://{tmp_path}/users" ]  Auth_Failure_Delay = 0.001
            Listen "127.0.0.1:0" {{ }} }}
    """)
    return tmp_path


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats")) as server:
        for config in (STREAM, OBJECT_BUCKET):
            JetStream(server).make(config)
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis("--requirepass", REDIS_PASSWORD) as server:
        yield server


def shared(site: Path, nats: NATSProcess, redis: RedisServer) -> str:
    """Return the options that need other servers."""
    return f"""
        Node_Name = "mx1" Limits_Store = "{redis.url}" Limits_Store_Password_File = "{site}/redis"
        Inbound_Throttle_Messages = "100/60"
        Domain "queue.example.com" {{ Deliver_To = "queue" }}
        Delivery "queue" {{ Deliver_To = "nats://127.0.0.1:{nats.port}/MAIL/mail.in?replicas=1"
            Credentials_File = "{site}/nats.creds" }}
        Policy = ( "filter:spam" )
        Filter "spam" {{ Connect_To = "rspamd:http://127.0.0.1:9" Password_File = "{site}/rspamd"
            Policy_Fallback = "continue" }}
    """


def front(site: Path, port: int, password: str) -> str:
    return f"""
        Relay_Domains = ( "*example.com" ) Deliver_To = "hop"
        Domain "app.example.com" {{ Deliver_To = "app" }}
        Delivery "app" {{ Deliver_To = "https://127.0.0.1:9/in" Secret_File = "{site}/signing" }}
        Delivery "hop" {{ Deliver_To = "smtp://127.0.0.1:{port}" TLS = required TLS_CA = "{site}/ca.pem"
            TLS_Name = "hop.example" Auth_User = "front" Auth_Password_File = "{site}/{password}" }}
        ESMTP_Listener {{ SMTP_Extensions = ( "AUTH PLAIN" ) Allow_Plaintext_Auth = true
            AuthPlainParameters = [ uri = "file://{site}/users" ]
            Listen "127.0.0.1:0" {{ }} }}
        Status_Listener {{ Listen "127.0.0.1:0" {{ Token_File = "{site}/token" }} }}
    """


@pytest.mark.parametrize(("password", "code"), [("right", 250), ("wrong", 451)])
async def test_nothing_that_a_running_server_shows_has_a_secret(
    site: Path, password: str, code: int, caplog: pytest.LogCaptureFixture, nats: NATSProcess, redis: RedisServer
) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[ServerEvent] = []
    hop = partial(serving, (site / "hop.conf").read_text(), deliver=None, observers=(events.append,))
    async with hop() as behind:
        port = behind.addresses["127.0.0.1:0"][1]
        configuration = front(site, port, password) + shared(site, nats, redis)
        async with status_serving(configuration) as here:
            here.server.service.observers.add(events.append)
            client = await connect(here.server)
            await client.read()
            await client.command("EHLO client.example")
            secret = base64.b64encode(f"\0jane\0{USER_PASSWORD}".encode()).decode()
            assert (await client.command(f"AUTH PLAIN {secret}")).code == 235
            await client.command("MAIL FROM:<a@far.example>")
            assert (await client.command("RCPT TO:<u@example.com>")).code == code
            if code == 250:
                assert (await client.command("RCPT TO:<u@app.example.com>")).code == 250
                await client.command("DATA")
                await client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
                assert (await client.read()).code == 451  # nobody listens there
            await client.command("RSET")
            reply = await client.message("a@far.example", ["u@queue.example.com"], b"Subject: x\r\n\r\nx\r\n")
            assert reply.code == 250
            for path in ("/metrics", "/readyz", "/"):
                answer = await get(here.port, path, "localhost", f"Authorization: Bearer {TOKEN}")
                assert_clean(path, answer.body + json.dumps(answer.headers))
            overview = await here.status.overview()
            assert_clean("the page", json.dumps(overview))
            config = here.server.service.config
            assert_clean("repr of the configuration", repr([config, config.deliveries, config.base, here.server]))
    assert any(isinstance(event, Refused | MessageRefused) for event in events)
    for event in events:
        assert_clean("an event", repr(event).encode() + pickle.dumps(event, protocol=0))
        assert_clean("a line of the log", str(LINES[type(event)][2](event)))
    assert_clean("the log", caplog.text)


SCHEMES = {
    "smtp://user:{0}@h": "Auth_Password_File",
    "lmtp://{0}@h:24": "Auth_Password_File",
    "smtps://user:{0}/x@h": "Auth_Password_File",
    "https://user:{0}@h/in": "Secret_File",
}


@pytest.mark.parametrize(("address", "option"), SCHEMES.items())
def test_a_password_in_an_address_is_an_error_that_does_not_show_it(
    address: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = f'Deliver_To = "{address.format(PASSWORD)}" ESMTP_Listener {{ Listen ":25" {{ }} }}'
    told = run(capsys, "check", "-c", str(write(tmp_path / "c.conf", conf)))
    assert told.code == 78
    assert option in told.err
    assert_clean("the output of check", told.out + told.err)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (f"{PASSWORD}\n{WRONG}\n", 0o600, "expected one secret, found 2"),
        (b"\xff" + PASSWORD.encode(), 0o600, "not UTF-8"),
        (PASSWORD * 4000, 0o600, "longer than 64 KiB"),
        (PASSWORD, 0o644, "DANGER: others can read or change it (mode 0644)"),
    ],
)
def test_a_file_that_cannot_be_used_or_that_others_can_read_is_named_and_not_shown(
    content: str | bytes, mode: int, message: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "right").write_bytes(content if isinstance(content, bytes) else content.encode())
    (site / "right").chmod(mode)
    conf = write(site / "front.conf", front(site, 25, "right"))
    told = run(capsys, "check", "-c", str(conf))
    assert message in told.out + told.err
    assert str(site / "right") in told.out + told.err
    assert_clean("the output of check", told.out + told.err)


def test_the_commands_show_paths_only(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = str(write(site / "front.conf", front(site, 25, "right")))
    for words in (
        ("check", "-c", conf),
        ("config", "showrecurse", "-c", conf),
        ("config", "eval", "-c", conf, "Delivery", "hop", "Auth_Password_File"),
        ("config", "eval", "-c", conf, "ESMTP_Listener", "AuthPlainParameters"),
        ("tls", "show", "-c", conf),
    ):
        told = run(capsys, *words)
        assert_clean(" ".join(words), told.out + told.err)
    assert f'Secret_File = "{site}/signing"' in run(capsys, "config", "showrecurse", "-c", conf).out
    assert f'Auth_Password_File = "{site}/right"' in run(capsys, "config", "showrecurse", "-c", conf).out
