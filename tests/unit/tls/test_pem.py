"""Keys and certificates in PEM files, and the forms that OpenSSL has written."""

import random
from base64 import encodebytes
from pathlib import Path

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tls_peers import root, scaled, settings_of

from triosmtp.tls import CertificateFiles, ContextStore, MaterialError, TLSSettings, build_context, load_material


def test_key_in_the_certificate_file(good: TLSSettings) -> None:
    assert good.certificates[0].key is not None
    for first, second in (
        (good.certificates[0].certificate, good.certificates[0].key),
        (good.certificates[0].key, good.certificates[0].certificate),
    ):
        both = good.certificates[0].certificate.with_name("both.pem")
        both.write_bytes(first.read_bytes() + second.read_bytes())
        both.chmod(0o600)
        material = load_material(settings_of(both))
        assert len(material.certificates[0].chain) == 2
        build_context(material)


def test_openssl_s_older_key_forms(good: TLSSettings, tmp_path: Path) -> None:
    credential = root().issue("localhost", key_type="RSA-2048")
    certificate, key = credential.write(tmp_path, "old")
    older = credential.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    key.write_bytes(
        b"# a remark\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + older
    )
    assert load_material(settings_of(certificate, key)).certificates[0].key_type == "RSA-2048"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_mutated_files_are_refused_in_good_order_or_serve(good: TLSSettings, tmp_path: Path) -> None:
    dice = random.Random(5)
    credential = root().issue("localhost")
    certificate, key = credential.write(tmp_path, "bare")
    der = credential.certificate.public_bytes(Encoding.DER)
    secret = credential.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    outcomes = set()
    for _ in range(scaled(5_000, 200)):
        bare = TLSSettings(certificates=(CertificateFiles(certificate, key),))
        for path, data, label in ((certificate, der, b"CERTIFICATE"), (key, secret, b"PRIVATE KEY")):
            path.write_bytes(pem(label, mutated(dice, data)))
            for settings in (bare, evolve(good, client_ca=certificate)):
                try:
                    ContextStore().prepare(settings)
                    outcomes.add("serves")
                except MaterialError as error:
                    outcomes.add(error.option)
            path.write_bytes(pem(label, data))
    assert outcomes == {"serves", "TLS_Certificate", "TLS_Key", "TLS_Client_CA"}


def mutated(dice: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    broken[dice.randrange(len(broken))] = dice.randrange(256)
    return bytes(broken)


def pem(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, encodebytes(der), label)
