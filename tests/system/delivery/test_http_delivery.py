"""Mail that a server hands to an application by HTTP: the example in Starlette, and servers that do it wrong."""

import base64
import hashlib
import importlib.util
import json
import re
import secrets
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import trio
from http_server import Answer, HTTPServer, answer, asgi, http_server, nothing, silence

import triosmtp
from triosmtp import Server
from triosmtp.errors import ConfigError
from triosmtp.event import MessageRefused, ServerEvent
from triosmtp.testing import Authority, ScriptedClient

EXAMPLE = Path(__file__).parents[3] / "examples" / "http_receiver" / "receiver.py"
TEXT = "Subject: hello\r\n\r\ntext"


def secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("receiver", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "mail").mkdir()
    monkeypatch.setenv("MAIL_FOLDER", str(tmp_path / "mail"))
    return module


@asynccontextmanager
async def serving(folder: Path, target: str, more: str = "") -> AsyncIterator[tuple[Server, list[ServerEvent]]]:
    config = triosmtp.parse_config(f"""
        Banner_Hostname = "mx.example.com" Relay_Domains = ( "example.com" )
        {target} {more}
        ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
    """)
    events: list[ServerEvent] = []
    async with trio.open_nursery() as nursery:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("STATE_DIRECTORY", str(folder / "state"))
            server = await nursery.start(partial(triosmtp.serve, config, observers=[events.append]))
        with trio.fail_after(60):
            yield server, events
        await server.aclose()


async def send(server: Server, text: str = TEXT, *recipients: str) -> str:
    client = ScriptedClient(await trio.open_tcp_stream(*server.addresses["127.0.0.1:0"][:2]))
    await client.read()
    await client.command("EHLO client.example.org")
    await client.command("MAIL FROM:<a@example.org>")
    for recipient in recipients or ("you@example.com",):
        await client.command(f"RCPT TO:<{recipient}>")
    await client.command("DATA")
    await client.send(text.encode())
    reply = str(await client.command("\r\n."))
    await client.aclose()
    return reply


def delivery(url: str, options: str = "") -> str:
    return f'Deliver_To = "app" Delivery "app" {{ Deliver_To = "{url}" {options} }}'


async def refused(folder: Path, said: Answer, options: str = "", tls: ssl.SSLContext | None = None) -> tuple[str, str]:
    """Return the reply to a message, and the reason in the log."""
    async with (
        http_server(said, tls) as remote,
        serving(folder, delivery(f"{remote.url}/mail", options)) as (server, events),
    ):
        reply = await send(server)
        return reply, next(event.reason for event in events if isinstance(event, MessageRefused))


async def test_the_example_stores_what_is_signed_and_answers_for_it(
    receiver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, path = secret(), secret(), tmp_path / "secret"
    path.touch(0o600)
    path.write_text(f"{new}\n{old}\n")  # a rotation: the application has the former one
    monkeypatch.setenv("WEBHOOK_SECRET", old)
    async with http_server(asgi(receiver.application)) as remote:
        target = delivery(f"{remote.url}/mail", f'Secret_File = "{path}"')
        async with serving(tmp_path, target) as (server, events):
            assert (await send(server)).startswith("250")
            monkeypatch.setenv("WEBHOOK_SECRET", new)
            large = "Subject: large\r\n\r\n" + "line\r\n" * 100_000
            assert (await send(server, large, "one@example.com", "two@example.com")).startswith("250")
            remote.answer, good = replayed(remote), remote.answer
            assert (await send(server)).startswith("250")  # it came before, and is stored once
            remote.answer = good
            monkeypatch.setenv("WEBHOOK_SECRET", secret())
            assert (await send(server)).startswith("451 4.3.0")
            assert next(e.reason for e in events if isinstance(e, MessageRefused)).endswith(
                "answered 401: wrong signature"
            )
            monkeypatch.setattr(receiver, "MAX_BODY", 10)
            assert await send(server) == "552 5.3.4 Message too big for system"
        assert old not in repr(events)
    mail = sorted((tmp_path / "mail").iterdir())
    assert [file.suffix for file in mail] == [".eml", ".json"] * 2
    for message, envelope in zip(mail[::2], mail[1::2], strict=True):
        document = json.loads(envelope.read_text())
        octets = message.read_bytes()
        assert document["sha256"] == hashlib.sha256(octets).hexdigest()
        assert document["id"] == message.stem
        assert re.fullmatch("[A-Za-z0-9-]{1,32}", document["node"])
        assert re.match(rb"Received: from client\.example\.org .*?id " + message.stem.encode(), octets, re.DOTALL)
    assert mail[0].read_bytes().endswith(b"\r\nSubject: hello\r\n\r\ntext\r\n")
    assert [each["address"] for each in json.loads(mail[3].read_text())["recipients"]] == [
        "one@example.com", "two@example.com",
    ]  # fmt: skip


def replayed(remote: HTTPServer) -> Answer:
    """Answer with what the application says to the first request, once more."""
    first, application = remote.requests[0], remote.answer

    async def again(server: HTTPServer, stream: trio.abc.Stream, _request: object) -> None:
        await application(server, stream, first)

    return again


async def test_copies_and_different_messages_are_requests_of_their_own(tmp_path: Path) -> None:
    class Disclaimer(triosmtp.Policy):
        async def validate_data_spool_each_rcpt(
            self, session: triosmtp.Session, message: triosmtp.Message, recipient: triosmtp.Recipient
        ) -> None:
            if recipient.address.local_part == "two":
                message.edits_of(recipient).prepend("X-Two", "yes")

    async with http_server(answer()) as remote:
        config = triosmtp.parse_config(f"""
            Relay_Domains = ( "example.com" ) Deliver_To = ( "{remote.url}/mail" "maildir:{tmp_path}/copy" )
            Spool_Directory = "{tmp_path}"
            ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
        """)
        async with trio.open_nursery() as nursery:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
                server = await nursery.start(partial(triosmtp.serve, config, policy=Disclaimer()))
            assert (await send(server, TEXT, "one@example.com", "two@example.com")).startswith("250")
            await server.aclose()
        ids = [request.header("webhook-id") for request in remote.requests]
        assert len(set(ids)) == len(ids) == 2  # an application that ignores known ids misses none
        assert [b"X-Two: yes" in request.body for request in remote.requests] == [False, True]
    assert len(list((tmp_path / "copy" / "new").iterdir())) == 2


async def test_a_redirect_and_other_failures_are_451(tmp_path: Path) -> None:
    async with http_server(answer()) as other:
        reply, reason = await refused(tmp_path, answer("", 308, ("Location", f"{other.url}/mail")))
        assert (reply[:9], reason) == ("451 4.3.0", "app: answered 308")
        assert not other.connections
    reply, reason = await refused(tmp_path, answer("x" * 10_000, 503))
    assert (reply[:9], reason[:22]) == ("451 4.3.0", "app: answered 503: xxx")
    reply, reason = await refused(tmp_path, silence, "Body_Timeout = 0.2")
    assert (reply[:9], reason) == ("451 4.3.0", "app: no answer within 0.2 s")
    assert (await refused(tmp_path, nothing))[0].startswith("451 4.3.0")
    assert (await refused(tmp_path, answer("", 422)))[0] == "554 5.6.0 Message refused"


async def test_the_certificates_of_both_sides(tmp_path: Path) -> None:
    authority, clients, other = Authority.create(), Authority.create("clients"), Authority.create("other")
    for name, each in (("ca", authority), ("clients", clients), ("other", other)):
        (tmp_path / f"{name}.pem").write_bytes(each.certificate_pem)
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    clients.issue("mx", dns=["mx.example.com"]).write(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.load_verify_locations(tmp_path / "clients.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    pair = f'TLS_Certificate = "{tmp_path}/client.pem" TLS_Key = "{tmp_path}/client.key"'
    ca = f'TLS_CA = "{tmp_path}/ca.pem"'
    async with http_server(answer(), context) as remote:
        url = f"{remote.url}/mail"
        async with serving(tmp_path, delivery(url, f"{ca} {pair}")) as (server, _):
            assert (await send(server)).startswith("250")
        named = delivery(url.replace("localhost", "127.0.0.1"), f'{ca} {pair} TLS_Name = "localhost"')
        async with serving(tmp_path, named) as (server, _):
            assert (await send(server)).startswith("250")
        for options in (ca, f'TLS_CA = "{tmp_path}/other.pem" {pair}', pair, f'{ca} {pair} TLS_Name = "x.example"'):
            async with serving(tmp_path, delivery(url, options)) as (server, events):
                assert (await send(server)).startswith("451 4.3.0"), options
                assert "app: " in next(event.reason for event in events if isinstance(event, MessageRefused))
        assert len(remote.requests) == 2


def problems(text: str) -> list[str]:
    try:
        config = triosmtp.parse_config(f'{text} ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}')
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return [problem.message for problem in config.warnings]


def test_what_the_configuration_says() -> None:
    [message] = problems('Deliver_To = "https://joe:hunter2@app.example/mail"')
    assert "use Secret_File of a Delivery" in message
    assert "hunter2" not in message
    [message] = problems('Deliver_To = "http://app.example/mail"')
    assert "http:// is for loopback only: use https://" in message
    assert not problems('Deliver_To = "https://app.example/mail?x=y"')
    found = problems(delivery("https://app.example/", "XCLIENT = true Auth_User = x"))
    assert sum("has no effect for https:" in each for each in found) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('Secret_File = "{folder}/none"', "No such file or directory"),
        ('Secret_File = "{folder}/bad"', "a secret is whsec_ and the base64 of 24 to 64 random octets"),
        ('TLS_CA = "{folder}/none"', "No such file or directory"),
        ('TLS_Certificate = "{folder}/bad"', "PEM"),
    ],
)
async def test_files_that_cannot_be_used_are_errors_before_the_start(
    tmp_path: Path, options: str, message: str
) -> None:
    (tmp_path / "bad").write_text("hunter2\n")
    with pytest.raises((ConfigError, BaseExceptionGroup)) as error:
        async with serving(tmp_path, delivery("https://app.example/", options.format(folder=tmp_path))):
            pass
    found = error.value
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, ConfigError)
    assert message in str(found)
    assert "hunter2" not in str(found)


def test_without_httpx_check_says_how_to_install_it(tmp_path: Path) -> None:
    text = 'Relay_Domains = ( "x.y" ) Deliver_To = "https://app.example/" ESMTP_Listener { Listen ":25" { } }'
    (tmp_path / "t.conf").write_text(text)
    code = "import sys; sys.modules['httpx'] = None; from triosmtp.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "check", "-c", str(tmp_path / "t.conf")]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode != 0
    assert 'needs httpx: pip install "triosmtp[http]"' in found.stdout + found.stderr
