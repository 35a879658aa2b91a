"""Client chains that are dear to verify: names in each certificate, and subtrees that exclude names in each above it.

OpenSSL compares each name with each subtree above it, though the chain leads to nobody whom it trusts.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from triosmtp.x509.authority import Credential, new_key


def _name(number: int) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"c{number}")])


@cache
def hostile_chain(length: int, names: int) -> Credential:
    """Make a chain of ``length`` certificates, with so many names and as many subtrees in each: 12 octets for both."""
    keys = [new_key() for _ in range(length)]
    start = datetime.now(UTC) - timedelta(hours=1)
    uris = [x509.UniformResourceIdentifier("a://b")] * names
    excluded = [x509.UniformResourceIdentifier("c")] * names
    chain = []
    for number, key in enumerate(keys):
        builder = x509.CertificateBuilder(
            _name(number + 1), _name(number), key.public_key(), number + 1, start, start + timedelta(days=30)
        )
        builder = builder.add_extension(x509.BasicConstraints(number > 0, None), True)
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), False)
        if number:
            builder = builder.add_extension(x509.NameConstraints(None, excluded), True)
        chain.append(builder.sign(keys[min(number + 1, length - 1)], hashes.SHA256()))
    return Credential(tuple(chain), keys[0])
