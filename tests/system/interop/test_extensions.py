"""Real clients and the extensions that each of them knows: what they asked for is in the envelope that is delivered."""

import json
import smtplib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import frozen
from mail_client import TIMEOUT, need
from private_postfix import Route, running_postfix
from stanza_server import Letter

import triosmtp
from triosmtp import Message
from triosmtp.delivery import FunctionDelivery
from triosmtp.testing import Authority

CONF = """
AuthPlainParameters = [ uri = "file://{folder}/passwords" ]
AuthCramMD5Parameters = [ uri = "file://{folder}/passwords" ]
AuthDigestMD5Parameters = [ uri = "file://{folder}/passwords" ]
Relay_Domains = ( "example.com" "*.example.com" "b\u00fccher.example" )
ESMTP_Listener {{
  TLS_Certificate = "{folder}/server.pem"
  TLS_Key = "{folder}/server.key"
  Listen "127.0.0.1:0" {{
    SMTP_Extensions = (
      "ENHANCEDSTATUSCODES" "STARTTLS" "CHUNKING" "BINARYMIME" "DSN" "LIMITS" "REQUIRETLS" "DELIVERBY" "MT-PRIORITY"
      "AUTH SCRAM-SHA-256 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN"
    )
  }}
}}
"""
HONOURED = ("DSN", "BINARYMIME", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY")
TEXT = "Subject: gr\u00fc\u00dfe\n\n.umlaute: \u00e4\u00f6\u00fc\n"


@frozen
class Site:
    """A server that serves, and what it took."""

    port: int
    folder: Path
    messages: list[Message]
    bodies: list[bytes]

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as served:
        yield served


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Site]:
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "passwords").touch(0o600)
    (folder / "passwords").write_text("joe:secret\n")
    messages: list[Message] = []
    bodies: list[bytes] = []

    async def take(message: Message) -> None:
        messages.append(message)
        with message.body.open() as reader:
            bodies.append(reader.read())

    config = triosmtp.parse_config(CONF.format(folder=folder))
    async with trio.open_nursery() as nursery:
        delivery = FunctionDelivery(take, honours=HONOURED)
        server = await nursery.start(partial(triosmtp.serve, config, deliver=delivery))
        yield Site(server.addresses["127.0.0.1:0"][1], folder, messages, bodies)
        await server.aclose()


def run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


async def sent(site: Site, send: Callable[[], None]) -> tuple[Message, bytes]:
    await trio.to_thread.run_sync(send)
    return site.messages[-1], site.bodies[-1]


async def test_smtplib(site: Site) -> None:
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = "gr\u00fc\u00dfe", "j\u00f6@example.org", "b@b\u00fccher.example"
    letter.set_content("\u00e4\n", cte="8bit")

    def send() -> None:
        with smtplib.SMTP("localhost", site.port, timeout=TIMEOUT) as smtp:
            smtp.starttls(context=ssl.create_default_context(cafile=site.ca))
            options = ["RET=HDRS", "ENVID=q1", "REQUIRETLS", "BY=60;N", "MT-PRIORITY=2"]
            smtp.send_message(letter, mail_options=options, rcpt_options=["NOTIFY=SUCCESS,FAILURE"])

    message, body = await sent(site, send)
    envelope = message.envelope
    assert envelope.smtputf8
    assert (str(envelope.sender), envelope.body_type) == ("j\u00f6@example.org", "8BITMIME")
    assert (envelope.ret, envelope.envid, envelope.requiretls, envelope.priority) == ("HDRS", "q1", True, 2)
    assert envelope.recipients[0].address.domain_key == "xn--bcher-kva.example"
    assert envelope.recipients[0].notify == {"SUCCESS", "FAILURE"}
    assert "gr\u00fc\u00dfe".encode() in body
    assert b" with UTF8SMTPS id " in message.trace.replace(b"\r\n", b"")


async def test_curl(site: Site) -> None:
    command = [need("curl"), "-sS", "--ssl-reqd", "--crlf", "--cacert", str(site.ca), "--upload-file", "-"]
    command += ["--mail-from", "j\u00f6@example.org", "--mail-rcpt", "b@example.com", f"smtp://localhost:{site.port}/c"]
    message, body = await sent(site, lambda: run(command, TEXT))
    assert message.envelope.smtputf8
    assert str(message.envelope.sender) == "j\u00f6@example.org"
    assert body == TEXT.replace("\n", "\r\n").encode()


async def test_swaks(site: Site) -> None:
    command = [need("swaks"), "--server", f"127.0.0.1:{site.port}", "--pipeline", "--tls", "--from", "a@example.org"]
    command += ["--to", "b@example.com,c@example.com", "--body", "x"]
    message, _ = await sent(site, lambda: run(command))
    assert [str(each) for each in message.envelope.recipients] == ["b@example.com", "c@example.com"]


async def test_msmtp(site: Site) -> None:
    conf = site.folder / "msmtprc"
    lines = ["account default", "host localhost", f"port {site.port}", "tls on", f"tls_trust_file {site.ca}"]
    conf.write_text("\n".join([*lines, "dsn_notify success,delay", "dsn_return headers", ""]))
    command = [need("msmtp"), "-C", str(conf), "-f", "a@example.org", "--", "b@example.com"]
    message, _ = await sent(site, lambda: run(command, TEXT))
    assert message.envelope.ret == "HDRS"
    assert message.envelope.recipients[0].notify == {"SUCCESS", "DELAY"}


async def test_postfix(site: Site) -> None:
    def send() -> None:
        with running_postfix(site.ca, [Route("b.example.com", site.port, None, "TLSv1.3")]) as postfix:
            command = [need("sendmail"), "-C", str(postfix._configuration), "-f", "a@example.org", "-B", "8BITMIME"]
            command += ["-N", "success,delay", "-V", "envelope+7", "-R", "hdrs", "b@b.example.com"]
            run(command, TEXT)
            line = postfix.wait_for("status=")
            assert "status=sent" in line, line

    message, body = await sent(site, send)
    envelope, [recipient] = message.envelope, message.envelope.recipients
    assert (envelope.ret, envelope.envid, envelope.body_type) == ("HDRS", "envelope+7", "8BITMIME")
    assert "SIZE" in envelope.parameters
    assert recipient.notify == {"SUCCESS", "DELAY"}
    assert recipient.original == ("rfc822", "b@b.example.com")
    assert "gr\u00fc\u00dfe".encode() in body


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"])
async def test_postfix_authenticates(site: Site, mechanism: str) -> None:
    options = (
        "smtp_sasl_auth_enable=yes",
        "smtp_sasl_password_maps=static:joe:secret",
        "smtp_sasl_security_options=",
        "smtp_sasl_tls_security_options=",
        f"smtp_sasl_mechanism_filter={mechanism}",
    )

    def send() -> None:
        route = Route("b.example.com", site.port, None, "TLSv1.3", options)
        with running_postfix(site.ca, [route]) as postfix:
            outcome = postfix.send(Letter("a@example.org", "b@b.example.com"))
            assert outcome.sent, outcome.output + postfix.log

    message, _ = await sent(site, send)
    assert message.variables["auth_name"] == mechanism
    assert message.variables["auth_user"] == "joe"


async def test_nodemailer(site: Site) -> None:
    need("node")
    need("npm")
    script = """
    import { createTransport } from "nodemailer"
    const [port, ca] = [process.argv[2], process.argv[3]]
    import { readFileSync } from "node:fs"
    const transport = createTransport({ host: "localhost", port, requireTLS: true,
      auth: { user: "joe", pass: "secret" }, authMethod: "CRAM-MD5", tls: { ca: readFileSync(ca) } })
    await transport.sendMail({
      envelope: { from: "j\u00f6@example.org", to: ["b@example.com"], use8BitMime: true },
      dsn: { id: "msg-1", return: "headers", notify: ["success", "delay"], recipient: "b@example.com" },
      raw: "Subject: gr\u00fc\u00dfe\\r\\n\\r\\n\u00e4\\r\\n" })
    transport.close()
    """
    (site.folder / "package.json").write_text(json.dumps({"dependencies": {"nodemailer": "^7"}, "type": "module"}))
    (site.folder / "send.mjs").write_text(script)

    def send() -> None:
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=site.folder, check=True, timeout=120)
        run(["node", str(site.folder / "send.mjs"), str(site.port), str(site.ca)])

    message, _ = await sent(site, send)
    envelope, [recipient] = message.envelope, message.envelope.recipients
    assert envelope.smtputf8
    assert (envelope.ret, envelope.envid) == ("HDRS", "msg-1")
    assert message.variables["auth_name"] == "CRAM-MD5"
    assert recipient.notify == {"SUCCESS", "DELAY"}
    assert recipient.original == ("rfc822", "b@example.com")
