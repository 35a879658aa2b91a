"""Certificates by the name that a client asks for, and several beside each other: through whole sessions."""

import socket
import ssl
from base64 import b64encode
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from tls_stanza import Material, secured

import triosmtp
from triosmtp import ConfigError
from triosmtp.event import AuthAttempted, ServerEvent, TLSEstablished
from triosmtp.testing import MemoryServer, open_memory_server


class Named(Material):
    """With certificates for other names, too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("mx.example.org", "*.example.net", "peer.example.com"):
            self.authority.issue(name, dns=[name]).write(folder, name.replace("*", "any"))
        self.authority.issue("localhost", dns=["localhost"], key_type="RSA-2048").write(folder, "rsa")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Named:
    return Named(tmp_path_factory.mktemp("certificates"))


def conf(material: Material, more: str = "") -> str:
    folder = material.folder
    return material.conf(
        f"""
        Server_Name "mx.example.org" {{
          TLS_Certificate = "{folder}/mx.example.org.pem"  TLS_Key = "{folder}/mx.example.org.key"
        }}
        Server_Name "*.example.net" {{
          TLS_Certificate = "{folder}/any.example.net.pem"  TLS_Key = "{folder}/any.example.net.key"
        }}
        Peer "198.51.100.0/24" {{
          TLS_Certificate = "{folder}/peer.example.com.pem"  TLS_Key = "{folder}/peer.example.com.key"
        }}
        {more}
        """
    )


async def shown(server: MemoryServer, context: ssl.SSLContext, name: str, peer: str = "192.0.2.1") -> str:
    """Ask for a name; return the one in the certificate that the server shows, and in the variables."""
    context.check_hostname = False
    client = server.connect(peer=peer)
    await client.read()
    await client.command("EHLO c.example.org")
    assert (await client.starttls(context, name)).code == 220
    await client.command("EHLO c.example.org")
    assert isinstance(client.stream, trio.SSLStream)
    der = client.stream.getpeercert(binary_form=True)
    leaf = x509.load_der_x509_certificate(der)
    [established] = [e for e in server.events if isinstance(e, TLSEstablished)]
    assert established.tls.sni == name
    server.events.clear()
    return str(leaf.subject.rfc4514_string())


@pytest.mark.parametrize(
    ("asked", "peer", "certificate"),
    [
        ("mx.example.org", "192.0.2.1", "CN=mx.example.org"),
        ("MX.Example.Org", "192.0.2.1", "CN=mx.example.org"),
        ("a.example.net", "192.0.2.1", "CN=*.example.net"),
        ("a.b.example.net", "192.0.2.1", "CN=localhost"),
        ("other.example", "192.0.2.1", "CN=localhost"),
        ("other.example", "198.51.100.1", "CN=peer.example.com"),
        ("mx.example.org", "198.51.100.1", "CN=mx.example.org"),
    ],
)
async def test_the_server_name_chooses_the_certificate_before_a_peer_block(
    material: Named, asked: str, peer: str, certificate: str
) -> None:
    async with open_memory_server(conf(material)) as server:
        assert await shown(server, material.client(), asked, peer) == certificate


async def test_a_server_name_does_not_change_whether_a_certificate_is_requested(material: Named) -> None:
    async with open_memory_server(conf(material, 'Peer "203.0.113.0/24" { TLS_Verify_Mode = none }')) as server:
        for name in ("mx.example.org", "localhost"):
            client = await secured(server, material.client("good"), name)
            await client.aclose()
        quiet = server.connect(peer="203.0.113.1")
        await quiet.read()
        await quiet.command("EHLO c.example.org")
        assert (await quiet.starttls(material.client("good"), "mx.example.org")).code == 220
        assert (await quiet.command("EHLO c.example.org")).code == 250
    verified = [(e.tls.verified, e.tls.client_subject) for e in server.events if isinstance(e, TLSEstablished)]
    assert verified == [(True, "CN=good.example"), (True, "CN=good.example"), (False, None)]


@pytest.mark.parametrize(
    ("algorithms", "kind"), [("ECDHE-ECDSA-AES128-GCM-SHA256", "EC"), ("ECDHE-RSA-AES128-GCM-SHA256", "RSA")]
)
async def test_rsa_and_ecdsa_side_by_side(material: Named, algorithms: str, kind: str) -> None:
    folder = material.folder
    pair = {
        f'TLS_Certificate = "{folder}/cert.pem"': f'TLS_Certificate = ( "{folder}/cert.pem" "{folder}/rsa.pem" )',
        f'TLS_Key = "{folder}/cert.key"': f'TLS_Key = ( "{folder}/cert.key" "{folder}/rsa.key" )',
    }
    context = material.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(algorithms)
    async with open_memory_server(material.conf(**pair)) as server:
        client = await secured(server, context)
        assert isinstance(client.stream, trio.SSLStream)
        leaf = x509.load_der_x509_certificate(client.stream.getpeercert(binary_form=True))
    assert kind in type(leaf.public_key()).__name__.upper()


async def test_an_error_in_a_server_name_has_its_position(tmp_path: Path) -> None:
    material = Named(tmp_path)
    (tmp_path / "mx.example.org.key").unlink()
    with pytest.raises(ConfigError) as caught:
        async with open_memory_server(conf(material)):
            pass
    [problem] = caught.value.problems
    assert "mx.example.org.key" in problem.message
    assert "mx.example.org.key" in problem.source


async def test_unusual_material_is_logged_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    material = Named(tmp_path)
    (tmp_path / "cert.key").chmod(0o644)
    async with open_memory_server(conf(material)):
        pass
    assert "cert.key" in caplog.text
    assert "can be read by every user" in caplog.text


# Renegotiation: no client of the standard library does it


def renegotiate(material: Material, address: tuple[str, int], seen: list[bytes], first: str, then: str) -> None:
    """Send EHLO, MAIL and RCPT for elsewhere with one certificate, then again with another on the same connection."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with socket.create_connection(address, timeout=10) as sock:
        sock.recv(4096)
        for line in (b"EHLO c\r\n", b"STARTTLS\r\n"):
            sock.sendall(line)
            sock.recv(4096)
        sock.settimeout(None)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        _present(connection, material, first)
        connection.do_handshake()
        _relay(connection, seen)
        _present(connection, material, then)
        assert connection.renegotiate()
        connection.do_handshake()
        _relay(connection, seen)
        connection.shutdown()


def _present(connection: SSL.Connection, material: Material, name: str) -> None:
    connection.use_certificate(x509.load_pem_x509_certificate((material.folder / f"{name}.pem").read_bytes()))
    key = load_pem_private_key((material.folder / f"{name}.key").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    connection.use_privatekey(key)


def _relay(connection: SSL.Connection, seen: list[bytes]) -> None:
    for line in (b"EHLO c\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@elsewhere.example>\r\n"):
        connection.sendall(line)
        reply = connection.recv(4096)
    seen.append(reply[:3])
    connection.sendall(b"RSET\r\n")
    connection.recv(4096)


@pytest.mark.parametrize(
    ("first", "then", "codes"), [("good", "foreign", [b"250", b"550"]), ("foreign", "good", [b"550", b"250"])]
)
async def test_after_renegotiation_the_latest_certificate_counts(
    material: Named, first: str, then: str, codes: list[bytes]
) -> None:
    more = "TLS_Allow_Renegotiation = true  TLS_Verified_Peer_Can_Relay = true"
    config = triosmtp.parse_config(material.conf(more).replace('":25"', '"127.0.0.1:0"'))
    events: list[ServerEvent] = []
    seen: list[bytes] = []

    async def drop(message: triosmtp.Message) -> None:
        return None

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=[events.append]))
        await trio.to_thread.run_sync(renegotiate, material, server.addresses["127.0.0.1:0"], seen, first, then)
        nursery.cancel_scope.cancel()
    assert seen == codes
    assert [e.tls.verified for e in events if isinstance(e, TLSEstablished)] == [code == b"250" for code in codes]


def log_in(material: Material, address: tuple[str, int], seen: list[bytes], anew: bool, mechanism: bytes) -> None:
    """Begin AUTH with a good certificate, renegotiate with a foreign one or not, and continue AUTH."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with socket.create_connection(address, timeout=10) as sock:
        sock.recv(4096)
        for line in (b"EHLO c\r\n", b"STARTTLS\r\n"):
            sock.sendall(line)
            sock.recv(4096)
        sock.settimeout(None)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        _present(connection, material, "good")
        connection.do_handshake()
        for line in (b"EHLO c\r\n", b"AUTH " + mechanism + b"\r\n"):
            connection.sendall(line)
            reply = connection.recv(4096)
        assert reply[:3] == b"334"
        if anew:
            _present(connection, material, "foreign")
            assert connection.renegotiate()
            connection.do_handshake()
        answer = b"" if mechanism == b"EXTERNAL" else b64encode(b"\0jo\0secret")
        for line in (answer, b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@elsewhere.example>"):
            connection.sendall(line + b"\r\n")
            seen.append(connection.recv(4096)[:3])
        connection.shutdown()


@pytest.mark.parametrize("mechanism", [b"EXTERNAL", b"PLAIN"])
@pytest.mark.parametrize("anew", [False, True])
async def test_renegotiation_ends_an_authentication(
    material: Named, tmp_path: Path, anew: bool, mechanism: bytes
) -> None:
    (tmp_path / "passwords").write_text("jo:secret\n")
    more = f"""TLS_Allow_Renegotiation = true  AuthExternalParameters = [ map = "subject_cn" ]
        AuthPlainParameters = [ uri = "file://{tmp_path}/passwords" ]"""
    text = material.conf(more, STARTTLS='STARTTLS" "AUTH PLAIN EXTERNAL').replace('":25"', '"127.0.0.1:0"')
    config = triosmtp.parse_config(text)
    events: list[ServerEvent] = []
    seen: list[bytes] = []

    async def drop(message: triosmtp.Message) -> None:
        return None

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=[events.append]))
        address = server.addresses["127.0.0.1:0"]
        await trio.to_thread.run_sync(log_in, material, address, seen, anew, mechanism)
        nursery.cancel_scope.cancel()
    assert seen == ([b"501", b"250", b"550"] if anew else [b"235", b"250", b"250"])
    [attempt] = [e for e in events if isinstance(e, AuthAttempted)]
    assert attempt.succeeded is not anew
