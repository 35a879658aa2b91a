"""Certificates made octet by octet, and a server that grants rights by certificate, with and without workers."""

import os
import re
import smtplib
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from triosmtp.testing import Authority
from triosmtp.x509.authority import IssuerKey
from triosmtp.x509.der import SEQUENCE, element

REPOSITORY = Path(__file__).parents[2]
ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
COMMON_NAME = bytes.fromhex("0603550403")
ALTERNATIVE_NAME, EXTENDED_USAGE, BASIC = "551d11", "551d25", "551d13"
CLIENT_AUTH = bytes.fromhex("300a06082b06010505070302")
OUT = "x@elsewhere.example"

CONF = """
Deliver_To = "maildir:{folder}/Maildir"
Relay_Domains = ( "example.com" )
ESMTP_Listener {{
  TLS_Certificate = "{folder}/cert.pem"
  TLS_Key = "{folder}/cert.key"
  TLS_Client_CA = "{folder}/clientca.pem"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  TLS_Verified_Peer_Can_Relay = true
  {more}
  Listen "127.0.0.1:0" {{ }}
}}
{beside}
"""


def distinguished_name(value: bytes, tag: int = 0x0C) -> bytes:
    """Return a name of one CN."""
    return element(SEQUENCE, element(0x31, element(SEQUENCE, COMMON_NAME, element(tag, value))))


def extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    return element(
        SEQUENCE, element(0x06, bytes.fromhex(kind)), b"\x01\x01\xff" if critical else b"", element(0x04, value)
    )


def public_key(key: IssuerKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def moment(when: datetime) -> bytes:
    return element(0x17, f"{when:%y%m%d%H%M%SZ}".encode())


def assembled(
    issuer_key: IssuerKey,
    key: IssuerKey,
    *,
    issuer: bytes = distinguished_name(b"client CA"),
    subject: bytes = distinguished_name(b"client.example"),
    serial: bytes = b"\x12\x34\x56",
    extensions: tuple[bytes, ...] = (extension(EXTENDED_USAGE, CLIENT_AUTH),),
    part: bytes | None = None,
) -> bytes:
    """Return a certificate in DER, signed; ``part`` is the whole of its signed part."""
    now = datetime.now(UTC)
    validity = element(SEQUENCE, moment(now - timedelta(hours=1)), moment(now + timedelta(days=30)))
    if part is None:
        more = element(0xA3, element(SEQUENCE, *extensions)) if extensions else b""
        part = element(
            SEQUENCE, bytes.fromhex("a003020102"), element(0x02, serial), ALGORITHM, issuer, validity, subject,
            public_key(key), more,
        )  # fmt: skip
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    signature = issuer_key.sign(part, ec.ECDSA(hashes.SHA256()))
    return element(SEQUENCE, part, ALGORITHM, element(0x03, b"\x00", signature))


def write(folder: Path, name: str, key: IssuerKey, *chain: bytes) -> None:
    """Write a chain in DER and its key as a client loads them."""
    (folder / f"{name}.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, chain)))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Site:
    """A folder of certificates, and servers that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Authority.create("server CA")
        self.clients = Authority.create("client CA")
        self.servers.issue("localhost", dns=["localhost"]).write(folder, "cert")
        (folder / "clientca.pem").write_bytes(self.clients.certificate_pem)

    def conf(self, more: str = "", beside: str = "") -> str:
        return CONF.format(folder=self.folder, more=more, beside=beside)

    def client(self, name: str | None, version: str = "TLSv1.3") -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.servers.certificate_pem.decode())
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    @contextmanager
    def serving(self, conf: str) -> Iterator[int]:
        """Run `triosmtp serve` in its own process; yield its port."""
        (self.folder / "t.conf").write_text(conf)
        command = [sys.executable, "-m", "triosmtp", "serve", "-c", "t.conf", "--control", str(self.folder / "c")]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "STATE_DIRECTORY": str(self.folder / "state")}
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            assert process.stdout is not None
            try:
                port = 0
                for line in process.stdout:
                    if match := re.match(r'Listen "127.0.0.1:0": .* port (\d+)', line):
                        port = int(match[1])
                    if line.startswith("Control socket"):
                        break
                assert port, (self.folder / "log").read_text()
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield port
            finally:
                process.terminate()
                process.wait(30)

    def rcpt(self, port: int, name: str | None, version: str = "TLSv1.3", **changes: Any) -> int:
        """Return the reply to a client that sends to another domain."""
        with smtplib.SMTP("localhost", port, timeout=30, **changes) as client:
            client.starttls(context=self.client(name, version))
            client.ehlo()
            code, _ = client.mail("a@example.org")
            return code if code != 250 else client.rcpt(OUT)[0]
