"""The hash of a signature algorithm."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.signature import signature_digest

DIGESTS: dict[str, tuple[Any, Any]] = {
    "SHA-256": (hashes.SHA256(), None),
    "SHA-384": (hashes.SHA384(), None),
    "SHA3-256": (hashes.SHA3_256(), None),
    "SHA-512 in PSS": (hashes.SHA512(), padding.PSS(padding.MGF1(hashes.SHA512()), 64)),
    "SHA-224": (hashes.SHA224(), None),
}


@pytest.mark.parametrize("kind", DIGESTS)
def test_the_hash_of_a_signature(kind: str) -> None:
    digest, pss = DIGESTS[kind]
    key = rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(key, digest, rsa_padding=pss)
    found = signature_digest(LoadedCertificate.from_der(certificate.public_bytes(Encoding.DER)).openssl)
    assert found == digest.name.replace("-", "_")
