"""What is said beside the handshake proper: stapled OCSP responses, ALPN, and handshakes after the first."""

import gc

import pytest
import trio
from OpenSSL import SSL
from tls_peers import (
    VERSIONS,
    adopted,
    client_context,
    client_credential,
    close,
    folder,
    foreign_root,
    meet,
    taken,
)
from tls_programs import (
    OPENSSL,
    context_with,
    converse,
    identity,
    needs_gnutls,
    the_failure,
    the_only,
)
from trio.testing import memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Credential


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("asked", ["localhost", "mx.example.org"])
@pytest.mark.parametrize("offered", ["smtp", "h2,smtp", "h2", "http/1.1,h2", None])
async def test_alpn(version: str, asked: str, offered: str | None) -> None:
    context = context_with(server_names=(("mx.example.org", (identity("alpn-rsa"),)),))
    flags = [version, "-servername", asked] + ([] if offered is None else ["-alpn", offered])
    printed, learnt = await converse(context, [*OPENSSL, *flags])
    if offered is None or "smtp" in offered:
        assert the_only(learnt).alpn == (None if offered is None else "smtp")
        assert ("ALPN protocol: smtp" in printed) is (offered is not None)
        assert "220 ready" in printed
    else:
        failure = the_failure(learnt)
        assert (failure.reason, failure.detail) == ("no_application_protocol", "no application protocol")
        assert "SSL alert number 120" in printed
    _, learnt = await converse(context, [*OPENSSL, version, "-servername", asked])  # the next one is not harmed
    assert the_only(learnt).alpn is None


@needs_gnutls
async def test_alpn_by_gnutls() -> None:
    command = ["gnutls-cli", "--insecure", "--crlf", "-p", "{port}", "127.0.0.1", "--alpn"]
    _, learnt = await converse(context_with(), [*command, "smtp"])
    assert the_only(learnt).alpn == "smtp"
    printed, learnt = await converse(context_with(), [*command, "h2"])
    assert the_failure(learnt).reason == "no_application_protocol"
    assert "No supported application protocol could be negotiated" in printed


async def test_alpn_failures_leave_no_connection_behind() -> None:
    client = client_context()
    client.set_alpn_protocols(["h2"])

    async def fail() -> None:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def connect() -> None:
                with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                    await trio.SSLStream(theirs, client, server_hostname="x").do_handshake()

            with pytest.raises(HandshakeError):
                await handshake(context, ours)
            await ours.aclose()

    def alive() -> int:
        return sum(isinstance(each, SSL.Connection) for each in gc.get_objects())

    context = context_with()
    await fail()
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(50):
            await fail()
        assert alive() <= before
    finally:
        gc.enable()


RENEGOTIATE = [each for each in OPENSSL if each != "-ign_eof"]


async def test_tls_allow_renegotiation() -> None:
    context = context_with(allow_renegotiation=True)
    certificate, key = client_credential().write(folder(), "again")
    command = [*RENEGOTIATE, "-tls1_2", "-cert", str(certificate), "-key", str(key)]
    printed, learnt = await converse(context, command, ("220 ready", "R"), ("RENEGOTIATING", "NOOP"), ("250 NOOP", "Q"))
    assert "250 NOOP" in printed
    first, second = learnt
    assert isinstance(first, TLSInfo)
    assert isinstance(second, TLSInfo)
    assert first.verified
    assert second.verified
    assert first.client_certificate == second.client_certificate


async def test_renegotiation_is_off_by_default() -> None:
    said = (("220 ready", "R"), ("RENEGOTIATING", "NOOP"))
    printed, learnt = await converse(context_with(), [*RENEGOTIATE, "-tls1_2"], *said)
    assert "no renegotiation" in printed
    assert "250 NOOP" not in printed
    the_only(learnt)


def renegotiating_pair(credential: Credential | None) -> SSL.Connection:
    """Return a client that presents ``credential`` in its next handshakes, too, until another one is set."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context)
    client.set_connect_state()
    if credential is not None:
        show(client, credential)
    return client


def show(client: SSL.Connection, credential: Credential) -> None:
    client.use_certificate(credential.certificate)
    client.use_privatekey(credential.key)


@pytest.mark.parametrize(
    ("first", "second"), [("good", "foreign"), ("foreign", "good"), ("nobody", "good"), ("nobody", "foreign")]
)
async def test_what_one_handshake_showed_says_nothing_in_the_next(first: str, second: str) -> None:
    credentials = {"good": client_credential(), "foreign": foreign_root().issue("client.example"), "nobody": None}
    context = context_with(allow_renegotiation=True)
    client = renegotiating_pair(credentials[first])
    ours, theirs = memory_stream_pair()

    async def hear() -> bytes:
        """Perform all work of TLS until the server's next reply comes."""
        while True:
            try:
                return client.recv(100)
            except SSL.WantReadError:
                flight = taken(client)
            if flight:
                await theirs.send_all(flight)
            client.bio_write(await theirs.receive_some())

    async def talk() -> None:
        assert await hear() == b"220 ready\r\n"
        credential = credentials[second]
        assert credential is not None
        show(client, credential)
        client.send(b"NOOP 1\r\n")
        assert client.renegotiate()
        assert await hear() == b"250 once\r\n"  # its words and its new hello went in one piece
        client.send(b"NOOP 2\r\n")
        await theirs.send_all(taken(client))
        assert client.total_renegotiations() == 1

    learnt = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        with trio.fail_after(10):
            stream, info = await handshake(context, ours)
            learnt.append(info)
            assert stream.renegotiated() is None
            await stream.send_all(b"220 ready\r\n")
            said = b""
            while not said.endswith(b"NOOP 2\r\n"):
                said += await stream.receive_some()
                again = stream.renegotiated()
                if again is not None:
                    learnt.append(again)
                if said == b"NOOP 1\r\n":
                    await stream.send_all(b"250 once\r\n")
            assert stream.renegotiated() is None
            await close(stream)
    assert [info.verified for info in learnt] == [first == "good", second == "good"]
    assert [info.verify_code for info in learnt] == [20 if who == "foreign" else 0 for who in (first, second)]
    assert (learnt[0].client_certificate is None) is (first == "nobody")


@pytest.mark.parametrize("version", VERSIONS)
async def test_where_it_is_allowed_ordinary_clients_notice_nothing(version: str) -> None:
    context = context_with(allow_renegotiation=True)
    info, _ = await meet(context, client_context(version, client_credential()))
    assert info.verified
    engine = Engine(context.context)
    adopted(engine)
    engine.openssl_connection.set_app_data(None)  # nobody follows: nobody is harmed
    with pytest.raises(Exception, match="more ciphertext is needed"):
        engine.do_handshake()
