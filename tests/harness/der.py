"""Certificates put together octet by octet, so that each field can be wrong on its own; the signature is right."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from triosmtp.x509.authority import Authority

EC_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
EC_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
CLIENT_AUTH = bytes.fromhex("300a06082b06010505070302")
NULL = b"\x05\x00"


def element(tag: int, *content: bytes) -> bytes:
    data = b"".join(content)
    size = len(data)
    if size < 0x80:
        return bytes([tag, size]) + data
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + data


def sequence(*content: bytes) -> bytes:
    return element(0x30, *content)


def integer(value: int) -> bytes:
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def time(moment: datetime) -> bytes:
    return element(0x17, f"{moment:%y%m%d%H%M%SZ}".encode())


def common_name(value: bytes, tag: int = 0x0C) -> bytes:
    return sequence(element(0x31, sequence(b"\x06\x03\x55\x04\x03", element(tag, value))))


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    first, second, *others = map(int, oid.split("."))
    octets = bytes([40 * first + second])
    for number in others:
        base128 = [number & 0x7F]
        while number := number >> 7:
            base128.append(0x80 | (number & 0x7F))
        octets += bytes(reversed(base128))
    return sequence(element(0x06, octets), b"\x01\x01\xff" if critical else b"", element(0x04, value))


BASIC, KEY_USAGE, ALTERNATIVE_NAME, EXTENDED_USAGE = "2.5.29.19", "2.5.29.15", "2.5.29.17", "2.5.29.37"
CONSTRAINTS, POLICIES = "2.5.29.30", "2.5.29.32"


@frozen(kw_only=True)
class Fields:
    """The fields of a certificate that would be good, each of which may be given otherwise."""

    version: bytes = bytes.fromhex("a003020102")
    serial: bytes = integer(0x1234567890)
    inner_algorithm: bytes = EC_SHA256
    outer_algorithm: bytes = EC_SHA256
    issuer: bytes | None = None
    not_before: bytes = time(datetime.now(UTC) - timedelta(hours=1))
    not_after: bytes = time(datetime.now(UTC) + timedelta(days=30))
    subject: bytes = common_name(b"client.example")
    public_key: bytes | None = None
    extensions: Iterable[bytes] = (extension(EXTENDED_USAGE, CLIENT_AUTH),)
    behind: bytes = b""
    """Octets after the extensions, within the signed part."""
    digest: hashes.HashAlgorithm = field(factory=hashes.SHA256)
    key: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def signed_by(self, authority: Authority) -> bytes:
        public = self.public_key
        if public is None:
            public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        issuer = authority.certificate.subject.public_bytes() if self.issuer is None else self.issuer
        extensions = list(self.extensions)
        part = sequence(
            self.version, self.serial, self.inner_algorithm, issuer, sequence(self.not_before, self.not_after),
            self.subject, public, element(0xA3, sequence(*extensions)) if extensions else b"", self.behind,
        )  # fmt: skip
        assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
        signature = authority.key.sign(part, ec.ECDSA(self.digest))
        return sequence(part, self.outer_algorithm, element(0x03, b"\x00", signature))
