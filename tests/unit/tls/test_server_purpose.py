"""TLS_Client_Purpose: whom it lets in, held to OpenSSL's own program over a table of chains."""

import ssl
import subprocess
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import der
import pytest
from attrs import evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from OpenSSL import SSL, crypto
from tls_peers import (
    VERSIONS,
    adopted,
    client_context,
    foreign_root,
    meet,
    plain_client,
    root,
    server_credential,
    shake,
    taken,
)
from tls_programs import OPENSSL, context_with, converse, the_only

from triosmtp.tls.server_purpose import verifies_as_server
from triosmtp.tls.settings import ClientPurpose
from triosmtp.tls.tls_info import tls_info
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Authority, Credential

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
ANY, CLIENT, SERVER, MAIL = Usage.ANY_EXTENDED_KEY_USAGE, Usage.CLIENT_AUTH, Usage.SERVER_AUTH, Usage.EMAIL_PROTECTION
STEP_UP = x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3")  # Microsoft's "server gated crypto"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
PURPOSES: tuple[ClientPurpose, ...] = ("client", "client-or-server")
Extensions = list[tuple[x509.ExtensionType, bool]]


def eku(*usages: x509.ObjectIdentifier, critical: bool = False) -> Extensions:
    return [(x509.ExtendedKeyUsage(usages), critical)]


def key_usage(*names: str) -> Extensions:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return [(x509.KeyUsage(**{name: name in names for name in every}), True)]


def netscape(bits: bytes) -> Extensions:
    return [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.16.840.1.113730.1.1"), b"\x03\x02" + bits), False)]


def leaf(*extensions: Extensions, by: Authority | None = None, **options: Any) -> Credential:
    merged = [each for found in extensions for each in found]
    return (by or root()).issue("mx.partner.example", usage=(), extensions=merged, **options)


def below(extensions: Extensions, **options: Any) -> Authority:
    return root().issue_authority("Issuing CA", extensions=extensions, **options)


def damaged(credential: Credential) -> Credential:
    der = bytearray(credential.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Credential((x509.load_der_x509_certificate(bytes(der)),), credential.key)


def alone(credential: Credential) -> Credential:
    return Credential(credential.chain[:1], credential.key)


def by_a_server() -> Credential:
    issuer = leaf(eku(SERVER))
    return leaf(eku(SERVER), by=Authority(issuer.certificate, issuer.key, issuer.chain))


def for_other_names() -> Credential:
    constraint = x509.NameConstraints([x509.DNSName("permitted.example")], None)
    return leaf(eku(SERVER), by=below([(constraint, True)]), dns=["mx.partner.example"])


def with_a_foreign_intermediate() -> Credential:
    """Return a good chain, and behind its leaf an intermediate of another authority, which OpenSSL must not use."""
    credential = leaf(eku(SERVER), by=below(eku(SERVER)))
    foreign = foreign_root().issue_authority("Issuing CA", extensions=eku(CLIENT))
    return Credential((credential.chain[0], foreign.certificate, *credential.chain[1:]), credential.key)


Grant = Literal["client", "server", "nobody"]


@frozen
class Chain:
    make: Callable[[], Credential]
    grant: Grant
    """The usage for which it verifies, at most."""
    eku: str | None = "server"
    listed: bool = True
    """Whether the usages of the leaf are listed as they must be; if not, the client is `nobody`."""


CHAINS = {
    # The leaf's own extended key usage
    "no EKU": Chain(leaf, "client", None),
    "client": Chain(lambda: leaf(eku(CLIENT)), "client", "client"),
    "server": Chain(lambda: leaf(eku(SERVER)), "server"),
    "server, critical": Chain(lambda: leaf(eku(SERVER, critical=True)), "server"),
    "server and mail": Chain(lambda: leaf(eku(MAIL, SERVER)), "server"),
    "both": Chain(lambda: leaf(eku(CLIENT, SERVER)), "client", "both"),
    "any": Chain(lambda: leaf(eku(ANY)), "nobody", "any"),
    "any and client": Chain(lambda: leaf(eku(ANY, CLIENT)), "client", "client"),
    "any and server": Chain(lambda: leaf(eku(ANY, SERVER)), "server"),
    "neither": Chain(lambda: leaf(eku(MAIL)), "nobody", "none"),
    "step-up": Chain(lambda: leaf(eku(STEP_UP)), "nobody", "none", listed=False),
    # Its key usage and Netscape's type
    "server that enciphers keys": Chain(lambda: leaf(eku(SERVER), key_usage("key_encipherment")), "server"),
    "both, enciphers keys": Chain(lambda: leaf(eku(CLIENT, SERVER), key_usage("key_encipherment")), "server", "both"),
    "no EKU, enciphers keys": Chain(lambda: leaf(key_usage("key_encipherment")), "nobody", None, listed=False),
    "server that signs lists": Chain(lambda: leaf(eku(SERVER), key_usage("crl_sign")), "nobody"),
    "Netscape's server": Chain(lambda: leaf(eku(SERVER), netscape(b"\x06\x40")), "server"),
    "Netscape's client": Chain(lambda: leaf(eku(SERVER), netscape(b"\x07\x80")), "nobody"),
    # Intermediates
    "below no EKU": Chain(lambda: leaf(eku(SERVER), by=below([])), "server"),
    "below server": Chain(lambda: leaf(eku(SERVER), by=below(eku(SERVER))), "server"),
    "below both": Chain(lambda: leaf(eku(SERVER), by=below(eku(SERVER, CLIENT))), "server"),
    "below client": Chain(lambda: leaf(eku(SERVER), by=below(eku(CLIENT))), "nobody"),
    "below any": Chain(lambda: leaf(eku(SERVER), by=below(eku(ANY))), "nobody"),
    "below any and server": Chain(lambda: leaf(eku(SERVER), by=below(eku(ANY, SERVER))), "server"),
    "below mail": Chain(lambda: leaf(eku(SERVER), by=below(eku(MAIL))), "nobody"),
    "below step-up": Chain(lambda: leaf(eku(SERVER), by=below(eku(STEP_UP))), "nobody", listed=False),
    "below step-up and server": Chain(lambda: leaf(eku(SERVER), by=below(eku(STEP_UP, SERVER))), "server"),
    "both below server": Chain(lambda: leaf(eku(CLIENT, SERVER), by=below(eku(SERVER))), "server", "both"),
    "both below client": Chain(lambda: leaf(eku(CLIENT, SERVER), by=below(eku(CLIENT))), "client", "both"),
    "client below server": Chain(lambda: leaf(eku(CLIENT), by=below(eku(SERVER))), "nobody", "client"),
    "no EKU below server": Chain(lambda: leaf(by=below(eku(SERVER))), "nobody", None, listed=False),
    "a foreign intermediate": Chain(with_a_foreign_intermediate, "server"),
    # Other errors
    "expired": Chain(lambda: leaf(eku(SERVER), not_before=NOW - 3 * DAY, not_after=NOW - DAY), "nobody"),
    "not yet valid": Chain(lambda: leaf(eku(SERVER), not_before=NOW + DAY, not_after=NOW + 3 * DAY), "nobody"),
    "intermediate expired": Chain(lambda: leaf(eku(SERVER), by=below([], not_after=NOW - DAY)), "nobody"),
    "RSA-1024": Chain(lambda: leaf(eku(SERVER), key_type="RSA-1024"), "nobody"),
    "intermediate RSA-1024": Chain(lambda: leaf(eku(SERVER), by=below([], key_type="RSA-1024")), "nobody"),
    "RSA": Chain(lambda: leaf(eku(SERVER), key_type="RSA-2048"), "server"),
    "critical extension": Chain(lambda: leaf(eku(SERVER), [(UNKNOWN, True)]), "nobody"),
    "intermediate, critical extension": Chain(lambda: leaf(eku(SERVER), by=below([(UNKNOWN, True)])), "nobody"),
    "bad signature": Chain(lambda: damaged(leaf(eku(SERVER))), "nobody"),
    "foreign": Chain(lambda: leaf(eku(SERVER), by=foreign_root()), "nobody"),
    "intermediate missing": Chain(lambda: alone(leaf(eku(SERVER), by=below([]))), "nobody"),
    "by a server": Chain(by_a_server, "nobody"),
    "for other names": Chain(for_other_names, "nobody"),
    "path too long": Chain(
        lambda: leaf(eku(SERVER), by=below([], path_length=0).issue_authority("One Too Many")), "nobody"
    ),
    "self-signed": Chain(
        lambda: leaf(eku(SERVER), by=Authority.create("mx.partner.example")), "nobody"
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
async def test_purposes_are_those_of_openssl(chain: Chain, version: str, tmp_path: Path) -> None:
    credential = chain.make()
    serve_policy_client = {
        purpose: await presented(credential, version, client_purpose=purpose) for purpose in PURPOSES
    }  # a context for each
    as_client, as_server = (openssl_verifies(credential, purpose, tmp_path) for purpose in ("sslclient", "sslserver"))
    assert as_client == (chain.grant == "client")
    if chain.grant != "client":
        assert as_server == (chain.grant == "server" or not chain.listed)
    assert serve_policy_client["client"].verified == as_client
    assert serve_policy_client["client-or-server"].verified == (chain.grant != "nobody")
    for info in serve_policy_client.values():
        assert (info.server_purpose, info.client_eku) == (chain.grant == "server", chain.eku)
        assert (info.verify_error is None, info.verify_code == 0) == (info.verified, info.verified)
        assert info.variables().get("tls_client_eku") == chain.eku


async def presented(credential: Credential, version: str = "TLSv1.3", **settings: Any) -> TLSInfo:
    info, _ = await meet(context_with(**settings), client_context(version, credential))
    return info


def openssl_verifies(credential: Credential, purpose: str, folder: Path) -> bool:
    (folder / "root.pem").write_bytes(root().certificate_pem)
    (folder / "leaf.pem").write_bytes(credential.certificate.public_bytes(Encoding.PEM))
    (folder / "rest.pem").write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in credential.chain[1:]))
    command = ["openssl", "verify", "-purpose", purpose, "-auth_level", "2", "-CAfile", "root.pem"]
    command += ["-no-CApath", "-no-CAstore", *(["-untrusted", "rest.pem"] if credential.chain[1:] else [])]
    result = subprocess.run([*command, "leaf.pem"], cwd=folder, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == result.stdout.endswith(": OK\n"), result
    return result.returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_error_behind_the_purpose_is_not_forgotten(version: str) -> None:
    """OpenSSL reports the purpose first, and goes on after it was waived; its last call reports success."""
    expired = leaf(eku(SERVER), not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    info = await presented(expired, version, client_purpose="client-or-server")
    assert (info.verified, info.verify_code, info.server_purpose) == (False, 26, False)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_revoked_server_is_not_let_in(version: str, tmp_path: Path) -> None:
    gone, good = leaf(eku(SERVER)), leaf(eku(SERVER))
    path = tmp_path / "crl.pem"
    path.write_bytes(root().revocation_list([gone.certificate]).public_bytes(Encoding.PEM))
    for credential, verified in ((gone, False), (good, True)):
        info = await presented(credential, version, client_purpose="client-or-server", client_crls=(path,))
        assert (info.verified, info.server_purpose) == (verified, verified)


async def test_the_second_verification_looks_into_the_lists_too(tmp_path: Path) -> None:
    """And knows no other authorities: asked alone, without the first verification before it."""
    gone, good = leaf(eku(SERVER)), leaf(eku(SERVER))
    path = tmp_path / "crl.pem"
    path.write_bytes(root().revocation_list([gone.certificate]).public_bytes(Encoding.PEM))
    context = context_with(client_crls=(path,))
    expected = ((gone, False), (good, True), (leaf(eku(SERVER), by=foreign_root()), False), (leaf(eku(CLIENT)), False))
    for credential, verifies in expected:
        engine = context.new_engine()
        shake(engine, plain_client("TLSv1.3", credential))
        assert verifies_as_server(engine.openssl_connection) is verifies


async def test_depth_and_level_of_the_options_hold() -> None:
    deep = leaf(eku(SERVER), by=below([]).issue_authority("Second"))
    for depth, verified in ((1, False), (2, True)):
        info = await presented(deep, client_purpose="client-or-server", verify_depth=depth)
        assert info.verified is verified
    for key_type, strongest in (("RSA-1024", 1), ("RSA-2048", 2), ("P-256", 3)):
        credential = leaf(eku(SERVER), key_type=key_type)
        for level in (0, 1, 2, 3):
            ciphers = f"DEFAULT:@SECLEVEL={level}"
            context = context_with(client_purpose="client-or-server", ciphers=ciphers)
            info, _ = await meet(context, client_context("TLSv1.3", credential))
            assert info.verified is (level <= strongest)
            engine = context.new_engine()
            shake(engine, plain_client("TLSv1.2", credential))
            assert verifies_as_server(engine.openssl_connection) is (level <= strongest)


@pytest.mark.parametrize("protocols", [("TLSv1.2",), ("TLSv1.3",), ("TLSv1.0", "TLSv1.1", "TLSv1.2")])
async def test_it_does_not_hang_on_the_protocols_of_the_listener(protocols: tuple[str, ...]) -> None:
    version = protocols[-1]
    info = await presented(leaf(eku(SERVER)), version, client_purpose="client-or-server", protocols=protocols)
    assert (info.protocol, info.verified) == (version, True)


def padding(size: int) -> Extensions:
    content = b"\x04\x82" + size.to_bytes(2, "big") + bytes(size)
    return [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), content), False)]


@pytest.mark.parametrize(("size", "in_a_thread"), [(10, False), (0x5000, True)])
async def test_a_large_chain_is_verified_off_the_event_loop_both_times(
    size: int, in_a_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes in several records then, too."""
    threads: list[bool] = []

    def note(connection: SSL.Connection) -> bool:
        threads.append(threading.current_thread() is not threading.main_thread())
        return verifies_as_server(connection)

    monkeypatch.setattr("triosmtp.tls.tls_info.verifies_as_server", note)
    info = await presented(leaf(eku(SERVER), padding(size)), client_purpose="client-or-server")
    assert (info.verified, info.server_purpose) == (True, True)
    assert threads == [in_a_thread]


async def test_a_renegotiation_is_judged_anew(tmp_path: Path) -> None:
    """In TLS 1.2, by OpenSSL's program: the purpose counts in each handshake."""
    context = context_with(client_purpose="client-or-server", allow_renegotiation=True, protocols=("TLSv1.2",))
    certificate, key = leaf(eku(SERVER)).write(tmp_path, "mx")
    command = [each for each in OPENSSL if each != "-ign_eof"]  # it would not take orders
    command += ["-tls1_2", "-cert", str(certificate), "-key", str(key)]
    said = (("220 ready", "R"), ("RENEGOTIATING", "NOOP"), ("250 NOOP", "Q"))
    _, learnt = await converse(context, command, *said)
    assert [(each.verified, each.server_purpose) for each in learnt if isinstance(each, TLSInfo)] == [(True, True)] * 2


async def test_what_one_handshake_showed_says_nothing_in_the_next() -> None:
    """A client that presents an expired certificate, and in its renegotiation a good one."""
    context = context_with(client_purpose="client-or-server", allow_renegotiation=True)
    client, good = plain_client("TLSv1.2", CHAINS["expired"].make()), leaf(eku(SERVER))
    engine = context.new_engine()
    shake(engine, client)
    assert not tls_info(engine, certificate_requested=True).server_purpose
    incoming, outgoing = adopted(engine)
    client.use_certificate(good.certificate)
    client.use_privatekey(good.key)
    client.renegotiate()
    while engine.verification.handshakes < 2:
        with suppress(SSL.WantReadError):
            client.do_handshake()
        incoming.write(taken(client))
        with suppress(ssl.SSLWantReadError):
            engine.read()
        client.bio_write(outgoing.read())
    info = tls_info(engine, certificate_requested=True)
    assert (info.verified, info.client_fingerprint_sha256) == (True, good.certificate.fingerprint(SHA256()).hex())


async def test_real_clients_with_the_servers_certificate(tmp_path: Path) -> None:
    certificate, key = server_credential().write(tmp_path, "mx")
    for purpose in PURPOSES:
        command = [*OPENSSL, "-cert", str(certificate), "-key", str(key)]
        printed, learnt = await converse(context_with(client_purpose=purpose), command)
        assert "220 ready" in printed
        info = the_only(learnt)
        assert (info.verified, info.server_purpose) == (purpose == "client-or-server", True)
        assert info.verify_error == (None if info.verified else "unsuitable certificate purpose")


async def test_nobody_is_verified_a_second_time_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("triosmtp.tls.tls_info.verifies_as_server", asked.append)
    for make in ("client", "both", "neither", "any", "expired", "foreign", "self-signed", "client below server"):
        await presented(CHAINS[make].make(), client_purpose="client-or-server")
    assert asked == []
    await presented(CHAINS["server"].make(), client_purpose="client")
    assert len(asked) == 1


def test_settings_that_differ_in_the_purpose_are_different_contexts() -> None:
    one = context_with().material.settings
    assert one != evolve(one, client_purpose="client-or-server")


OID_SERVER, OID_CLIENT = bytes.fromhex("06082b06010505070301"), bytes.fromhex("06082b06010505070302")
USAGES = {
    "server": [der.sequence(OID_SERVER)],
    "client": [der.sequence(OID_CLIENT)],
    "twice": [der.sequence(OID_SERVER)] * 2,
    "server, then client": [der.sequence(OID_SERVER), der.sequence(OID_CLIENT)],
    "client, then server": [der.sequence(OID_CLIENT), der.sequence(OID_SERVER)],
    "empty": [der.sequence()],
    "no content": [b""],
    "a set": [der.element(0x31, OID_SERVER)],
    "no sequence": [OID_SERVER],
    "junk within": [der.sequence(OID_SERVER, b"\x05\x00")],
    "junk behind": [der.sequence(OID_SERVER) + b"\x05\x00"],
    "server behind client": [der.sequence(OID_CLIENT) + der.sequence(OID_SERVER)],
    "long length": [b"\x30\x81\x0a" + OID_SERVER],
    "length without end": [b"\x30\x80" + OID_SERVER + b"\x00\x00"],
    "high tag number": [b"\x3f\x10\x0a" + OID_SERVER],
    "number padded": [der.sequence(bytes.fromhex("06092b0601050507038001"))],
    "number cut off": [der.sequence(bytes.fromhex("06082b06010505078301"))],
    "nested": [der.sequence(der.sequence(OID_SERVER))],
    "twice in one": [der.sequence(OID_SERVER, OID_SERVER)],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("usages", USAGES.values(), ids=USAGES)
def test_no_right_follows_from_usages_that_openssl_reads_otherwise(
    usages: list[bytes], version: str, tmp_path: Path
) -> None:
    fields = der.Fields(extensions=[der.extension(der.EXTENDED_USAGE, usage) for usage in usages])
    (tmp_path / "leaf.der").write_bytes(fields.signed_by(root()))
    (tmp_path / "root.pem").write_bytes(root().certificate_pem)
    as_client, as_server = (
        openssl(tmp_path, f"verify -purpose {purpose} -CAfile root.pem -no-CApath -no-CAstore leaf.der").endswith(
            "OK\n"
        )
        for purpose in ("sslclient", "sslserver")
    )
    listed = "TLS Web Server Authentication" in openssl(tmp_path, "x509 -in leaf.der -noout -ext extendedKeyUsage")
    key = fields.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    engine = context_with(client_purpose="client-or-server").new_engine()
    shake(engine, odd_client(version, (tmp_path / "leaf.der").read_bytes(), key))
    info = tls_info(engine, certificate_requested=True)
    assert as_client or (as_server and listed) or not info.verified
    assert info.server_purpose is (info.verified and not as_client)
    if len(usages) == 1 and usages[0] in {der.sequence(OID_SERVER), der.sequence(OID_CLIENT)}:
        assert info.verified


def openssl(folder: Path, arguments: str) -> str:
    command = ["openssl", *arguments.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def odd_client(version: str, certificate: bytes, key: bytes) -> SSL.Connection:
    """Return a client that presents a certificate which cryptography does not read."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION if version == "TLSv1.2" else SSL.TLS1_3_VERSION)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pyOpenSSL's own classes are to go
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, certificate))
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, key))
    client = SSL.Connection(context)
    client.set_connect_state()
    return client
