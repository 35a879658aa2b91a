"""Files of the operator's that OpenSSL takes, and stricter readers refuse: they are served, and each kind of key is."""

import hashlib
import ssl
import subprocess
from base64 import encodebytes
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from der import ALTERNATIVE_NAME, BASIC, CLIENT_AUTH, EXTENDED_USAGE, Fields, common_name, element, extension, sequence
from OpenSSL import crypto
from tls_peers import client_context, client_credential, meet, plain_client, root, settings, shake

import triosmtp
from triosmtp.commands.probe import load_credential, probe
from triosmtp.tls import (
    CertificateFiles,
    ContextStore,
    MaterialError,
    TLSSettings,
    build_context,
    channel_bindings,
    load_material,
    renew,
)
from triosmtp.tls.chain_findings import Authorities, chain_findings, tlsa_data_of_pem
from triosmtp.x509.authority import Authority, Credential
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.public_authority import public_authorities

ODD = {
    "ampersand": common_name(b"Meyer & Co", 0x13),
    "underscore, asterisk and at": common_name(b"*_@x", 0x13),
    "Latin-1 in a T61String": common_name(b"M\xfcller", 0x14),
    "Latin-1 in an IA5String": common_name(b"M\xfcller", 0x16),
    "unknown attribute": sequence(element(0x31, sequence(b"\x06\x03\x2a\x03\x04", element(0x0C, b"x")))),
}
CA = extension(BASIC, bytes.fromhex("30030101ff"), critical=True)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + encodebytes(der) + f"-----END {label}-----\n".encode()


def write(folder: Path, name: str, key: Any, *chain: bytes) -> CertificateFiles:
    certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(map(pem, chain)))
    Credential((), key).write(folder, f"{name}-key")
    (folder / f"{name}-key.key").replace(secret)
    return CertificateFiles(certificate, secret)


def odd_server(folder: Path, kind: str, name: str = "odd") -> CertificateFiles:
    """Return a server's certificate below an intermediate, both with odd names, and one malformed alternative name."""
    key = ec.generate_private_key(ec.SECP256R1())
    above = Fields(subject=ODD[kind], key=key, extensions=(CA,)).signed_by(root())
    host, mail = element(0x82, b"mx.example.org"), element(0x81, b"m\xfcller@example.org")
    names = extension(ALTERNATIVE_NAME, sequence(host, mail))
    leaf = Fields(issuer=ODD[kind], subject=common_name(b"mx & co", 0x13), extensions=(names,))
    return write(folder, name, leaf.key, leaf.signed_by(Authority(root().certificate, key)), above)


@pytest.mark.parametrize("kind", ODD)
async def test_a_server_certificate_is_served_and_a_renewal_puts_it_in_force(kind: str, tmp_path: Path) -> None:
    identity = odd_server(tmp_path, kind)
    asked = TLSSettings(certificates=(identity,))
    odd = identity.certificate.read_bytes(), identity.key_place[1].read_bytes()
    root().issue("before").write(tmp_path, "odd")
    store = ContextStore()
    store.prepare(asked)
    identity.certificate.write_bytes(odd[0])
    identity.key_place[1].write_bytes(odd[1])
    renewal = renew(store, [asked])
    assert not renewal.problems
    context = renewal.contexts[asked]
    assert (context.generation, len(context.material.certificates[0].chain)) == (2, 2)
    client = client_context()
    client.load_verify_locations(cadata=root().certificate_pem.decode())
    client.verify_mode = ssl.CERT_REQUIRED
    await meet(context, client, name=None)
    (leaf, above) = context.material.certificates[0].chain
    assert list(chain_findings((leaf, above), Authorities.of([loaded(root())]))) == []
    assert public_authorities([above]) == ()
    assert tlsa_data_of_pem(identity.certificate.read_bytes()) == f"3 1 1 {leaf.facts.spki_sha256}"


def loaded(authority: Authority) -> LoadedCertificate:
    return LoadedCertificate.from_der(authority.certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize("kind", ODD)
async def test_an_authority_of_clients_verifies_them(kind: str, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    itself = Authority(root().certificate, key)
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(pem(Fields(subject=ODD[kind], issuer=ODD[kind], key=key, extensions=(CA,)).signed_by(itself)))
    usage = extension(EXTENDED_USAGE, CLIENT_AUTH)
    client = Fields(issuer=ODD[kind], extensions=(usage,))
    identity = write(tmp_path, "client", client.key, client.signed_by(itself))
    context = build_context(load_material(having(client_ca=bundle)))
    info, _ = await meet(context, presenting(identity))
    assert (info.verified, info.verify_error) == (True, None)


def having(**changes: Any) -> TLSSettings:
    good = settings()
    fields = {"certificates": good.certificates, "request_certificate": True, "client_ca": good.client_ca}
    return TLSSettings(**{**fields, **changes})


def presenting(identity: CertificateFiles) -> Any:
    context = client_context()
    context.load_cert_chain(identity.certificate, identity.key)
    return context


# Bundles of TLS_Client_CA with authorities that nobody can verify with


@cache
def binary_curve() -> bytes:
    """Return a root on a curve over a binary field, which OpenSSL may be built without."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:sect233k1", "-nodes"]
    command += ["-keyout", "/dev/null", "-subj", "/CN=Binary", "-days", "9"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def with_key(algorithm: str) -> bytes:
    """Return a certificate whose key is of an algorithm that OpenSSL does not know."""
    key = sequence(bytes.fromhex(algorithm), element(0x03, b"\x00" + bytes(66)))
    return pem(Fields(subject=common_name(b"Strange"), public_key=key, extensions=(CA,)).signed_by(root()))


def trusted() -> bytes:
    command = ["openssl", "x509", "-trustout", "-addtrust", "clientAuth"]
    return subprocess.run(command, input=root().certificate_pem, capture_output=True, check=True).stdout


UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "GOST": (lambda: with_key("301f06082a85030701010101301306072a85030202230106082a85030701010202"), "its kind of key"),
    "no known algorithm": (lambda: with_key("300506032a0304"), "its kind of key"),
    "no known curve": (lambda: with_key("301106072a8648ce3d020106062a0304050607"), "its kind of key"),
    "TRUSTED CERTIFICATE": (trusted, "settings of trust"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("first", [True, False])
async def test_one_authority_that_cannot_be_used_leaves_the_others(kind: str, first: bool, tmp_path: Path) -> None:
    make, why = UNUSABLE[kind]
    bundle, other = tmp_path / "clients.pem", Authority.create("Other")
    good = [other.certificate_pem, root().certificate_pem]
    bundle.write_bytes(b"".join([make(), *good] if first else [*good, make()]))
    material = load_material(having(client_ca=bundle))
    assert len(material.authorities) == 2
    (warning,) = material.warnings
    assert f"certificate {1 if first else 3} (line" in str(warning)
    assert why in str(warning)
    info, _ = await meet(build_context(material), client_context("TLSv1.3", client_credential()))
    assert info.verified


async def test_an_authority_on_a_curve_that_openssl_may_be_built_without(tmp_path: Path) -> None:
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(binary_curve() + root().certificate_pem)
    info, _ = await meet(
        build_context(load_material(having(client_ca=bundle))), client_context("TLSv1.3", client_credential())
    )
    assert info.verified


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_bundle_of_such_authorities_alone_is_an_error(kind: str, tmp_path: Path) -> None:
    make, why = UNUSABLE[kind]
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(make())
    with pytest.raises(MaterialError, match=why) as failure:
        load_material(having(client_ca=bundle))
    assert failure.value.option == "TLS_Client_CA"


def test_an_authority_that_is_cut_short_is_still_an_error(tmp_path: Path) -> None:
    """Or a bundle that was written in part would lose authorities."""
    bundle = tmp_path / "clients.pem"
    whole = root().certificate.public_bytes(Encoding.DER)
    bundle.write_bytes(root().certificate_pem + pem(whole[:-20]))
    with pytest.raises(MaterialError, match=r"certificate 2 \(line 11\) cannot be parsed"):
        load_material(having(client_ca=bundle))


# Kinds of keys


def made_by_openssl(folder: Path, *arguments: str) -> CertificateFiles:
    command = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=mx.example.org", "-days", "9", *arguments]
    subprocess.run([*command, "-keyout", "k.key", "-out", "k.pem"], cwd=folder, capture_output=True, check=True)
    return CertificateFiles(folder / "k.pem", folder / "k.key")


PSS = ("-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048")
RESTRICTED = (
    *PSS, "-pkeyopt", "rsa_pss_keygen_md:sha256", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha256",
    "-pkeyopt", "rsa_pss_keygen_saltlen:32",
)  # fmt: skip
KINDS = {
    "RSA-2048": ("-newkey", "rsa:2048"),
    "RSA-PSS-2048": PSS,
    "RSA-PSS-2048, restricted": RESTRICTED,
    "P-521": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "Ed25519": ("-newkey", "ed25519"),
    "Ed448": ("-newkey", "ed448"),
}


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_key_is_served(kind: str, version: str, tmp_path: Path) -> None:
    identity = made_by_openssl(tmp_path, *KINDS[kind])
    material = load_material(TLSSettings(certificates=(identity,)))
    assert material.certificates[0].key_type == kind.partition(",")[0]
    info, _ = await meet(build_context(material), client_context(version))
    assert info.protocol == version


def test_rsa_pss_stands_beside_rsa(tmp_path: Path) -> None:
    pss = made_by_openssl(tmp_path, *PSS)
    other = CertificateFiles(*root().issue("x", key_type="RSA-2048").write(tmp_path, "rsa"))
    material = load_material(TLSSettings(certificates=(pss, other)))
    assert [each.key_kind for each in material.certificates] == ["RSA-PSS", "RSA"]
    build_context(material)


def test_a_key_that_tls_does_not_use(tmp_path: Path) -> None:
    subprocess.run(["openssl", "dsaparam", "-out", "p.pem", "2048"], cwd=tmp_path, capture_output=True, check=True)
    identity = made_by_openssl(tmp_path, "-newkey", f"dsa:{tmp_path}/p.pem")
    with pytest.raises(MaterialError, match="of a kind that TLS does not use"):
        load_material(TLSSettings(certificates=(identity,)))


# What is read of them


@pytest.mark.parametrize("kind", ODD)
def test_channel_binding_with_an_odd_certificate(kind: str, tmp_path: Path) -> None:
    """AUTH SCRAM-SHA-256-PLUS asks for it under TLS 1.2; it must not break the session."""
    identity = odd_server(tmp_path, kind)
    context = build_context(load_material(TLSSettings(certificates=(identity,))))
    engine, client = context.new_engine(), plain_client("TLSv1.2")
    shake(engine, client)
    shown = client.get_peer_certificate()
    assert shown is not None
    expected = hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)).digest()
    assert channel_bindings._server_end_point(engine.openssl_connection) == expected


@pytest.mark.parametrize("kind", ODD)
async def test_probe_tells_of_odd_certificates(kind: str, tmp_path: Path) -> None:
    """Those of the server, the authorities of --ca, and the one that is presented."""
    identity = odd_server(tmp_path, kind)
    assert identity.key is not None
    both = tmp_path / "both.pem"
    both.write_bytes(identity.certificate.read_bytes() + identity.key.read_bytes())
    conf = f'''
    Relay_Domains = ( "example.com" )
    ESMTP_Listener {{
      TLS_Certificate = "{identity.certificate}"
      TLS_Key = "{identity.key}"
      TLS_Client_CA = "{identity.certificate}"
      Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "STARTTLS" ) }}
    }}
    '''

    async def drop(message: triosmtp.Message) -> None:
        return None

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, triosmtp.parse_config(conf), deliver=drop))
        _, port = server.addresses["127.0.0.1:0"]
        report = await probe("127.0.0.1", port, "starttls", load_credential(both), (loaded(root()),))
        nursery.cancel_scope.cancel()
    assert report.error is None
    assert report.verify_error == "the certificate is not for 127.0.0.1"
    assert report.chain[0].subject == "CN=mx & co"
    assert [each.key_type for each in report.chain] == ["P-256", "P-256"]
    assert report.variables["tls_client_cert_subject"] == "CN=mx & co"
