"""What is said beside the handshake proper: stapled OCSP responses, ALPN, and handshakes after the first."""

import gc
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from der import Fields, integer
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
    root,
    taken,
)
from tls_programs import (
    OPENSSL,
    context_with,
    converse,
    identity,
    needs_gnutls,
    settings_with,
    the_failure,
    the_only,
    written,
)
from trio.testing import memory_stream_pair

from triosmtp.errors import HandshakeError
from triosmtp.tls import CertificateFiles, MaterialError, load_material
from triosmtp.tls.engine import Engine
from triosmtp.tls.handshake import handshake
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Credential

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@cache
def stapled_credential(key_type: Any = "P-256") -> Credential:
    return root().issue("localhost", dns=["localhost"], key_type=key_type)


def serial_line(certificate: x509.Certificate) -> str:
    octets = certificate.serial_number.to_bytes(20, "big")
    return f"Serial Number: {octets.hex().upper().removeprefix('00')}"  # as openssl prints it


def response(
    certificate: x509.Certificate,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    begin: datetime = NOW - HOUR,
    end: datetime | None = NOW + HOUR,
    issuer: x509.Certificate | None = None,
) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate, issuer=issuer or root().certificate, algorithm=hashes.SHA1(), cert_status=status,
        this_update=begin, next_update=end, revocation_time=begin if revoked else None, revocation_reason=None,
    ).responder_id(ocsp.OCSPResponderEncoding.HASH, root().certificate)  # fmt: skip
    return builder.sign(root().key, hashes.SHA256()).public_bytes(Encoding.DER)


def stapled(tmp_path: Path, der: bytes | None, credential: Credential | None = None) -> CertificateFiles:
    path = tmp_path / "ocsp.der"
    if der is not None:
        path.write_bytes(der)
    return evolve(written(credential or stapled_credential(), "stapled"), ocsp_response=path)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_tls_ocsp_response(version: str, tmp_path: Path) -> None:
    files = stapled(tmp_path, response(stapled_credential().certificate))
    context = context_with(certificates=(files,))
    assert context.material.warnings == ()
    printed, learnt = await converse(context, [*OPENSSL, version, "-status"])
    assert "OCSP Response Status: successful" in printed
    assert "Cert Status: good" in printed
    assert serial_line(stapled_credential().certificate) in printed
    assert isinstance(the_only(learnt), TLSInfo)
    printed, _ = await converse(context, [*OPENSSL, version])
    assert "OCSP" not in printed
    printed, _ = await converse(context_with(), [*OPENSSL, version, "-status"])
    assert "OCSP response: no response sent" in printed


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_each_certificate_has_its_own_response(version: str, tmp_path: Path) -> None:
    one, two = stapled_credential(), stapled_credential("RSA-2048")
    (tmp_path / "two").mkdir()
    first = stapled(tmp_path, response(one.certificate))
    named = evolve(written(two, "stapled-rsa"), ocsp_response=tmp_path / "two" / "ocsp.der")
    (tmp_path / "two" / "ocsp.der").write_bytes(response(two.certificate))
    context = context_with(certificates=(first, named), server_names=(("mx.example.org", (named,)),))
    signatures = {"ECDSA": "ecdsa_secp256r1_sha256", "RSA": "rsa_pss_rsae_sha256"}
    for kind, credential, asked in (("ECDSA", one, "x"), ("RSA", two, "x"), ("RSA", two, "mx.example.org")):
        flags = [version, "-status", "-sigalgs", signatures[kind], "-servername", asked]
        printed, _ = await converse(context, [*OPENSSL, *flags])
        assert serial_line(credential.certificate) in printed


async def test_old_response_is_a_warning_and_is_not_sent(tmp_path: Path) -> None:
    files = stapled(tmp_path, response(stapled_credential().certificate, begin=NOW - 3 * HOUR, end=NOW - HOUR))
    context = context_with(certificates=(files,))
    (warning,) = context.material.warnings
    assert (warning.option, warning.path) == ("TLS_OCSP_Response", files.ocsp_response)
    assert warning.reason.startswith("expired on ")
    printed, _ = await converse(context, [*OPENSSL, "-status"])
    assert "OCSP response: no response sent" in printed


@pytest.mark.parametrize(
    ("status", "begin", "reason"),
    [
        (ocsp.OCSPCertStatus.REVOKED, NOW - HOUR, "says that the certificate is revoked"),
        (ocsp.OCSPCertStatus.UNKNOWN, NOW - HOUR, "says that the certificate is unknown"),
        (ocsp.OCSPCertStatus.GOOD, NOW + HOUR, "is not valid before "),
    ],
)
def test_response_that_is_seldom_meant(
    status: ocsp.OCSPCertStatus, begin: datetime, reason: str, tmp_path: Path
) -> None:
    der = response(stapled_credential().certificate, status, begin=begin, end=None)
    (warning,) = load_material(settings_with(certificates=(stapled(tmp_path, der),))).warnings
    assert warning.reason.startswith(reason)


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (None, "does not exist"),
        (b"junk", "is not an OCSP response in DER: *"),
        (root().certificate.public_bytes(Encoding.PEM), "is not an OCSP response in DER: *"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            'is not a successful response, but "try_later"',
        ),
        (
            response(client_credential().certificate),
            "is about another certificate than the first of the file beside it",
        ),
    ],
    ids=["missing", "junk", "PEM", "unsuccessful", "other"],
)
def test_response_that_cannot_be_used(der: bytes | None, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MaterialError) as failure:
        load_material(settings_with(certificates=(stapled(tmp_path, der),)))
    assert failure.value.option == "TLS_OCSP_Response"
    assert failure.value.path == tmp_path / "ocsp.der"
    assert failure.value.reason.startswith(reason.removesuffix("*"))


def test_response_of_another_authority_for_the_same_number(tmp_path: Path) -> None:
    fields = Fields(serial=integer(stapled_credential().certificate.serial_number))
    other = x509.load_der_x509_certificate(fields.signed_by(foreign_root()))
    with pytest.raises(MaterialError, match="is about another certificate"):
        load_material(
            settings_with(certificates=(stapled(tmp_path, response(other, issuer=foreign_root().certificate)),))
        )


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
