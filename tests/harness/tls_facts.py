"""Facts of a TLS session, and of a certificate, for tests of who may relay."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tls_stanza import Material

from triosmtp import TLSInfo
from triosmtp.x509.certificate import certificate_facts


def info(*sans: str, verified: bool = True, code: int = 0, revoked: bool = False) -> TLSInfo:
    return TLSInfo(
        protocol="TLSv1.3", cipher="x", cipher_algbits=1, cipher_usebits=1, verified=verified, verify_code=code,
        revoked=revoked,
        client_certificate=b"x", client_fingerprint_sha256="aa" * 32, client_spki_sha256="bb" * 32, client_sans=sans,
    )  # fmt: skip


def fingerprint(material: Material, name: str, field: str = "fingerprint_sha256") -> str:
    leaf = x509.load_pem_x509_certificate((material.folder / f"{name}.pem").read_bytes())
    digest = getattr(certificate_facts(leaf.public_bytes(Encoding.DER)), field)
    assert isinstance(digest, str)
    return digest
