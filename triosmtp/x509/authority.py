"""A small certificate authority: for development certificates and for tests, ours and those of users.

Not for a public service: its key lies in memory or in a plain file.
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Credential", "KeyType", "new_key", "write_development_set"]

KeyType: TypeAlias = Literal["P-256", "P-384", "RSA-1024", "RSA-2048", "RSA-3072"]
IssuerKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_USAGE: Final = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_EARLIER: Final = timedelta(hours=1)  # for clocks that are behind
_LEAF_LIFE: Final = timedelta(days=397)
_AUTHORITY_LIFE: Final = timedelta(days=3650)


def new_key(key_type: KeyType = "P-256") -> IssuerKey:
    """Generate a private key.  RSA-1024 is there to be refused."""
    if key_type.startswith("RSA-"):
        return rsa.generate_private_key(65537, int(key_type[4:]))
    return ec.generate_private_key(ec.SECP256R1() if key_type == "P-256" else ec.SECP384R1())


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all, with ``mode`` from its first moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


@frozen(slots=True, eq=False)
class Credential:
    """A certificate with its key, and the intermediates up to the root, which is left out."""

    chain: tuple[x509.Certificate, ...]
    key: IssuerKey = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return self.chain[0]

    @property
    def certificate_pem(self) -> bytes:
        """Leaf and intermediates, as a server sends them and TLS_Certificate wants them."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @property
    def key_pem(self) -> bytes:
        """The private key in PKCS #8."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write ``NAME.pem`` (0644) and ``NAME.key`` (0600) into ``folder``, and return both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        write_private(key, self.key_pem)
        write_private(certificate, self.certificate_pem, 0o644)
        return certificate, key


@frozen(slots=True, eq=False)
class Authority:
    """An authority that issues certificates: a root, or an intermediate.

    ``above`` holds the certificates from its own up to the root, which is left out; it is empty for a root.
    """

    certificate: x509.Certificate
    key: IssuerKey = field(repr=False)
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def create(
        cls, name: str = "triosmtp development CA", *, key_type: KeyType = "P-256", not_after: datetime | None = None
    ) -> "Authority":
        """Create a root."""
        key = new_key(key_type)
        subject = _subject(name)
        builder = _builder(subject, subject, key, (None, not_after), _AUTHORITY_LIFE)
        builder = _with_authority_extensions(builder, None)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def certificate_pem(self) -> bytes:
        """This authority's own certificate, as a bundle wants it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_authority(
        self,
        name: str,
        *,
        key_type: KeyType = "P-256",
        path_length: int | None = None,
        not_after: datetime | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> "Authority":
        """Issue an intermediate; ``extensions`` as for :meth:`issue`."""
        key = new_key(key_type)
        builder = _builder(_subject(name), self.certificate.subject, key, (None, not_after), _AUTHORITY_LIFE)
        builder = _with_authority_extensions(builder, path_length)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        certificate = self._signed(builder)
        return Authority(certificate, key, (certificate, *self.above))

    def issue(
        self,
        name: str | x509.Name,
        *,
        dns: Iterable[str] = (),
        email: Iterable[str] = (),
        ip: Iterable[str] = (),
        uri: Iterable[str] = (),
        usage: Sequence[Literal["server", "client"]] = ("server", "client"),
        key_type: KeyType = "P-256",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> Credential:
        """Issue a leaf.  ``name`` is its CN, or the whole subject; ``extensions`` are added, with their criticality."""
        key = new_key(key_type)
        subject = name if isinstance(name, x509.Name) else _subject(name)
        builder = _builder(subject, self.certificate.subject, key, (not_before, not_after), _LEAF_LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGE[each] for each in usage]), critical=False)
        names: list[x509.GeneralName] = [
            *map(x509.DNSName, dns),
            *map(x509.RFC822Name, email),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip),
            *map(x509.UniformResourceIdentifier, uri),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return Credential((self._signed(builder), *self.above), key)

    def revocation_list(
        self, revoked: Iterable[x509.Certificate] = (), *, next_update: timedelta = timedelta(days=30)
    ) -> x509.CertificateRevocationList:
        """Sign a revocation list, effective an hour ago."""
        issued = datetime.now(UTC) - _EARLIER
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(issued)
            .next_update(issued + next_update)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, issued).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: IssuerKey,
    validity: tuple[datetime | None, datetime | None],
    life: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    not_before, not_after = validity
    begin = not_before or min(now, not_after or now) - _EARLIER
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(not_after or begin + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _with_authority_extensions(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        usage, critical=True
    )


_DEVELOPMENT_SET: Final = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")


def write_development_set(folder: Path) -> None:
    """Write certificates for tests and development, unless ``folder`` holds a set that is still valid.

    ``ca.pem``; ``server.pem`` and ``server.key`` for localhost; ``client.pem`` and ``client.key`` of a client that the
    authority vouches for.  The authority's key is thrown away.  Blocking.

    :raises OSError: if the folder cannot be written.
    """
    if _is_current(folder):
        return
    authority = Authority.create()
    write_private(folder / "ca.pem", authority.certificate_pem, 0o644)
    server = authority.issue("localhost", dns=["localhost"], ip=["127.0.0.1", "::1"], usage=["server"])
    server.write(folder, "server")
    authority.issue("client.localhost", dns=["client.localhost"], usage=["client"]).write(folder, "client")


def _is_current(folder: Path) -> bool:
    if not all((folder / name).is_file() for name in _DEVELOPMENT_SET):
        return False
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    try:
        certificates = [
            x509.load_pem_x509_certificate((folder / name).read_bytes())
            for name in ("ca.pem", "server.pem", "client.pem")
        ]
    except ValueError:
        return False
    return all(certificate.not_valid_after_utc > tomorrow for certificate in certificates)
