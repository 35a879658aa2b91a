"""Public keys: their kinds, and names."""

from cryptography.hazmat.primitives.serialization import Encoding
from tls_peers import root

from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.public_key import read_key


def test_the_names_of_keys() -> None:
    loaded_key = LoadedCertificate.from_der(root().certificate.public_bytes(Encoding.DER)).openssl.get_pubkey()
    assert (read_key(loaded_key).kind, read_key(loaded_key).name) == ("ECDSA", "P-256")
