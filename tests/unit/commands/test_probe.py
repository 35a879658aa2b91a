"""`triosmtp probe`: the TLS of a server, as its client sees it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import triosmtp
from triosmtp.cli import main
from triosmtp.commands import probe as probing
from triosmtp.commands.probe import Report, load_credential, probe, probe_command
from triosmtp.event import ServerEvent, TLSEstablished
from triosmtp.testing import Authority
from triosmtp.tls.chain_findings import tlsa_data

CONF = """
Relay_Domains = ( "example.com" )
ESMTP_Listener {
  Banner_Hostname = "mx.example.org"
  TLS_Certificate = "{folder}/cert.pem"
  TLS_Key = "{folder}/cert.key"
  TLS_Client_CA = "{folder}/ca.pem"
  Listen "127.0.0.1:0" { SMTP_Extensions = ( "STARTTLS" ) }
  Listen "[::1]:0" { Use_SSL = true }
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority.create("Probe Root")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1"]).write(folder, "cert")
    client = authority.issue("client.example", dns=["client.example"])
    client.write(folder, "client")
    (folder / "both.pem").write_bytes(client.certificate_pem + client.key_pem)
    return folder


@asynccontextmanager
async def serving(folder: Path, events: list[ServerEvent] | None = None) -> AsyncIterator[dict[str, int]]:
    async def drop(message: triosmtp.Message) -> None:
        return None

    config = triosmtp.parse_config(CONF.replace("{folder}", str(folder)))
    observers = [] if events is None else [events.append]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=observers))
        yield {name: address[1] for name, address in server.addresses.items()}
        nursery.cancel_scope.cancel()


async def test_starttls_told_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    async with serving(folder) as ports:
        port = ports["127.0.0.1:0"]
        report = await probe("localhost", port, "starttls")
    leaf = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    assert (report.error, report.banner) == (None, "220 mx.example.org ESMTP")
    assert "STARTTLS" in report.extensions
    assert "STARTTLS" not in report.extensions_tls
    assert "PIPELINING" in report.extensions_tls
    assert (report.protocol, report.cipher, report.cipher_bits) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
    assert report.group == "X25519MLKEM768"
    assert (report.verified, report.verify_error) == (True, None)
    assert report.tlsa == f"_{port}._tcp.localhost. IN TLSA {tlsa_data(leaf.public_bytes(Encoding.DER))}"
    assert [(each.subject, each.key_type) for each in report.chain] == [("CN=localhost", "P-256")]
    assert report.client_authorities == 1
    assert report.variables["tls_client_verify_error"] == "no certificate presented"


async def test_a_name_that_is_not_the_certificates_is_not_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    async with serving(folder) as ports:
        assert (await probe("127.0.0.1", ports["127.0.0.1:0"], "starttls")).verified
        report = await probe("::1", ports["[::1]:0"], "tls")
    assert (report.verified, report.verify_error) == (False, "the certificate is not for ::1")
    assert report.banner == "220 mx.example.org ESMTP"


async def test_an_authority_that_nobody_knows(folder: Path) -> None:
    async with serving(folder) as ports:
        report = await probe("localhost", ports["127.0.0.1:0"], "starttls")
    assert (report.verified, report.verify_error) == (False, "unable to get local issuer certificate")


async def test_the_variables_are_those_that_the_server_filled(folder: Path) -> None:
    events: list[ServerEvent] = []
    async with serving(folder, events) as ports:
        report = await probe("localhost", ports["127.0.0.1:0"], "starttls", load_credential(folder / "both.pem"))
    [established] = [event for event in events if isinstance(event, TLSEstablished)]
    unknowable = {"tls_client_verified", "ccert_subject", "ccert_issuer"}  # hang on what the server trusts
    filled = {key: value for key, value in established.tls.variables().items() if key not in unknowable}
    assert report.variables == filled
    assert established.tls.verified


async def test_a_certificate_without_its_key_is_told_of_and_not_presented(folder: Path) -> None:
    events: list[ServerEvent] = []
    async with serving(folder, events) as ports:
        report = await probe("localhost", ports["127.0.0.1:0"], "starttls", load_credential(folder / "client.pem"))
    assert report.variables["tls_client_cert_subject_cn"] == "client.example"
    assert "tls_client_verified" not in report.variables
    [established] = [event for event in events if isinstance(event, TLSEstablished)]
    assert established.tls.client_certificate is None


# Hostile servers


Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def hostile(handler: Handler) -> AsyncIterator[int]:
    async def handle(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def flood(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"2" * 65536)


async def many_lines(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"220-x\r\n" * 1000)


async def silence(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def escapes(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 \x1b]0;owned\x07\xff\xe2\x80\xae\r\n")
    await stream.receive_some()
    await stream.send_all(b"250-x\r\n250 \x1b[2J\r\n")
    await stream.receive_some()
    await stream.send_all(b"454 \x1b[31mno\r\n")


async def http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def goodbye(stream: trio.SocketStream) -> None:
    await stream.send_all(b"554 go away\r\n")


async def plaintext_after_220(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 x\r\n")
    await stream.receive_some()
    await stream.send_all(b"250 STARTTLS\r\n")
    await stream.receive_some()
    await stream.send_all(b"220 go\r\nwhat is this\r\n")
    await trio.sleep_forever()


async def no_handshake(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 x\r\n")
    await stream.receive_some()
    await stream.send_all(b"250 STARTTLS\r\n")
    await stream.receive_some()
    await stream.send_all(b"220 go\r\n")
    await trio.sleep_forever()


async def endless_handshake(stream: trio.SocketStream) -> None:
    await no_handshake_until_hello(stream)
    record = b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(16380)
    while True:
        await stream.send_all(record)


async def no_handshake_until_hello(stream: trio.SocketStream) -> None:
    for line in (b"220 x\r\n", b"250 STARTTLS\r\n", b"220 go\r\n"):
        await stream.send_all(line)
        await stream.receive_some()


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (flood, "banner: a line of more than 2048 octets"),
        (many_lines, "banner: a reply of more than 128 lines"),
        (silence, "banner: no reply within 0.2 s"),
        (http, "banner: not a reply: HTTP/1.1 400 Bad Request"),
        (goodbye, "banner: 554 go away"),
        (escapes, r"STARTTLS: 454 \1B[31mno"),
        (plaintext_after_220, "STARTTLS: the server sent more behind its 220, in plaintext"),
        (no_handshake, "handshake: not done within 0.2 s"),
        (endless_handshake, "handshake: protocol_error"),
    ],
)
async def test_a_hostile_server_cannot(handler: Handler, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_STEP", 0.2)
    async with hostile(handler) as port:
        report = await probe("127.0.0.1", port, "starttls")
    assert report.error is not None
    assert report.error.startswith(told)
    assert report.protocol is None


async def test_nothing_that_a_hostile_server_says_reaches_the_terminal_unescaped() -> None:
    async with hostile(escapes) as port:
        report = await probe("127.0.0.1", port, "starttls")
    printed = "\n".join(probing._lines(report, None))
    assert printed.replace("\n", "").isprintable()
    assert r"\1B]0;owned\07" in printed
    assert "\u202e" not in printed


async def test_nobody_there() -> None:
    async with hostile(silence) as port:
        pass
    for host in ("127.0.0.1", "localhost"):
        report = await probe(host, port, "starttls")
        assert report.error == "connection: connection refused"


# The command


@pytest.mark.parametrize(
    ("target", "mode", "found"),
    [
        ("mx.example.org", None, ("mx.example.org", 25, "starttls")),
        ("mx.example.org", "tls", ("mx.example.org", 465, "tls")),
        ("mx.example.org:465", None, ("mx.example.org", 465, "tls")),
        ("mx.example.org:465", "starttls", ("mx.example.org", 465, "starttls")),
        ("mx.example.org:2525", None, ("mx.example.org", 2525, "starttls")),
        ("[::1]:587", None, ("::1", 587, "starttls")),
        ("[::1]", None, ("::1", 25, "starttls")),
        ("2001:db8::1", None, ("2001:db8::1", 25, "starttls")),
        ("münchen.example", None, ("xn--mnchen-3ya.example", 25, "starttls")),
    ],
)
def test_target(target: str, mode: str | None, found: tuple[str, int, str]) -> None:
    assert probing._target(target, mode) == found  # type: ignore[arg-type]  # a mode as text


@pytest.mark.parametrize("target", ["", ":25", "x:", "x:0", "x:65536", "x:y", "[::1", "[::1]25", "a..b"])
def test_a_target_that_makes_no_sense(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_command(target, None, None, as_json=False) == 64
    assert capsys.readouterr().err.startswith("triosmtp: expected")


def test_a_certificate_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, told in ((None, "does not exist"), (b"junk", "PEM")):
        path = tmp_path / "cert.pem"
        if content is not None:
            path.write_bytes(content)
        assert probe_command("localhost", None, str(path), as_json=False) == 64
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (["client", "server"], "yes where its TLS_Client_CA vouches for the certificate, else no"),
        ([], "yes where its TLS_Client_CA vouches for the certificate, else no"),
        (["server"], "yes where its TLS_Client_CA vouches for it and TLS_Client_Purpose is client-or-server, else no"),
    ],
)
async def test_the_command_says_what_purpose_the_certificate_needs(
    usage: list[Any], told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = Authority.create().issue("client.example", usage=usage)
    (tmp_path / "our.pem").write_bytes(ours.certificate_pem + ours.key_pem)
    async with serving(folder) as ports:
        run = partial(
            probe_command, f"localhost:{ports['127.0.0.1:0']}", None, str(tmp_path / "our.pem"), as_json=False
        )
        assert await trio.to_thread.run_sync(run) == 0
    assert f"    tls_client_verified = {told}\n" in capsys.readouterr().out


async def test_the_command_prints_text_or_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    spki = tlsa_data(leaf.public_bytes(Encoding.DER)).split()[-1]
    async with serving(folder) as ports:
        target = f"localhost:{ports['127.0.0.1:0']}"
        certificate = str(folder / "both.pem")
        run = partial(probe_command, target, None, certificate)
        assert await trio.to_thread.run_sync(partial(run, as_json=False)) == 0
        text = capsys.readouterr().out
        assert await trio.to_thread.run_sync(partial(run, as_json=True)) == 0
        document = json.loads(capsys.readouterr().out)
    assert spki in text
    assert "tls_client_cert_subject = CN=client.example\n" in text
    assert "tls_client_verified = yes where its TLS_Client_CA vouches" in text
    assert document["variables"]["tls_client_cert_subject"] == "CN=client.example"
    assert document["chain"][0]["subject"] == "CN=localhost"
    assert document["error"] is None
    assert set(document) == {field.name for field in attrs.fields(Report)}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 0, "verified          no: unable to get local issuer certificate"),
        (("--ca", "ca.pem"), 0, "verified          yes"),
        (("--ca", "hostile.pem"), 2, "verified          no: unable to get local issuer certificate"),
        (("--expires-within", "5"), 0, "valid"),
        (("--expires-within", "99999"), 2, "days left, until 20"),
        (("--ca", "ca.pem", "--expires-within", "99999"), 2, "expires           CN=localhost: "),
        (("--ca", "ca.pem", "--expires-within", "0"), 0, "verified          yes"),
    ],
)
async def test_what_is_asked_of_the_certificate_decides_the_status(
    arguments: tuple[str, ...], status: int, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "hostile.pem").write_bytes(Authority.create("Another").certificate_pem)
    words = [str(folder / word) if word.endswith(".pem") else word for word in arguments]
    async with serving(folder) as ports:
        command = ["probe", f"localhost:{ports['127.0.0.1:0']}", *words]
        assert await trio.to_thread.run_sync(main, command) == status
    assert told in capsys.readouterr().out


async def test_an_expired_certificate_expires_within_any_number_of_days(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority.create("Probe Root")
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    past = datetime.now(UTC) - timedelta(days=3)
    authority.issue("localhost", dns=["localhost"], not_before=past - timedelta(days=9), not_after=past).write(
        tmp_path, "cert"
    )
    async with serving(tmp_path) as ports:
        command = ["probe", f"localhost:{ports['127.0.0.1:0']}", "--expires-within", "0"]
        assert await trio.to_thread.run_sync(main, command) == 2
        assert await trio.to_thread.run_sync(main, command[:2]) == 0
    assert "CN=localhost: expired on " in capsys.readouterr().out


def test_questions_about_the_certificate_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    for words, told in (
        (("--ca", str(tmp_path / "none.pem")), "No such file or directory"),
        (("--ca", str(tmp_path / "junk.pem")), "holds no certificate"),
    ):
        assert main(["probe", "localhost:1", *words]) == 64
        assert told in capsys.readouterr().err
    for days in ("-1", "soon", "1000000"):
        with pytest.raises(SystemExit) as caught:
            main(["probe", "localhost:1", "--expires-within", days])
        assert caught.value.code == 64
