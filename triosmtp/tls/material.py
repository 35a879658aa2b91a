"""Certificate material: files read once, checked, and kept as bytes and facts.

All that an operator can get wrong is found here and named by option and path, before a context is built and long before
a client connects.  Nothing is read again later: what was checked is what is used.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from triosmtp.errors import TrioSMTPError
from triosmtp.tls.certificate import CertificateFacts, certificate_facts

__all__ = ["Material", "MaterialError", "MaterialWarning", "Option", "TLSSettings", "VerifyMode", "load_material"]

Option: TypeAlias = Literal["TLS_Certificate", "TLS_Key", "TLS_Client_CA", "TLS_Ciphers"]
VerifyMode: TypeAlias = Literal["none", "optional", "require"]
PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)

_MAX_FILE: Final = 4 << 20  # bytes: the CA bundle of a whole operating system is a tenth of it
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(rb"-----BEGIN ")
_GNUTLS: Final = re.compile(r"(NORMAL|SECURE\d+|PERFORMANCE|PFS|LEGACY|SYSTEM|NONE)($|[:,])|.*[-+]VERS-")
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class MaterialError(TrioSMTPError):
    """Material that cannot be used: which option, which file (None where no file is meant), and why."""

    def __init__(self, option: Option, path: Path | None, reason: str) -> None:
        self.option: Option = option
        self.path = path
        self.reason = reason
        super().__init__(_sentence(option, path, reason))


@frozen(slots=True)
class MaterialWarning:
    """Material that works and should not be as it is.  ``option`` is None where it is the environment that is meant."""

    option: Option | None
    path: Path | None
    reason: str

    def __str__(self) -> str:
        return _sentence(self.option, self.path, self.reason)


def _sentence(option: Option | None, path: Path | None, reason: str) -> str:
    subject = " ".join(part for part in (option or "", "" if path is None else f'"{path}"') if part)
    return f"{subject}: {reason}" if subject else reason


@frozen(slots=True, kw_only=True)
class TLSSettings:
    """The effective TLS options of a listener, a Listen or a Peer; equal settings share one context."""

    certificate: Path
    """PEM: leaf first, then its chain; may also hold the key."""
    key: Path | None = None
    """PEM private key; None where the certificate file holds it."""
    client_ca: Path | None = None
    """PEM bundle of the authorities that client certificates are verified against."""
    ciphers: str = "DEFAULT"
    verify_mode: VerifyMode = "optional"

    @property
    def requests_certificate(self) -> bool:
        """Whether a client is asked for a certificate: there is something to verify it with, and nobody said no."""
        return self.client_ca is not None and self.verify_mode != "none"

    @property
    def key_place(self) -> tuple[Option, Path]:
        """Which option names the file with the private key, and the file."""
        return ("TLS_Certificate", self.certificate) if self.key is None else ("TLS_Key", self.key)


@frozen(slots=True, kw_only=True, eq=False)
class Material:
    """What :func:`.context.build_context` builds from, and what there is to show of it."""

    settings: TLSSettings
    chain: tuple[x509.Certificate, ...] = field(repr=False)
    """As the file has it and as it is sent: the leaf first."""
    key: PrivateKey = field(repr=False)
    authorities: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    """The client CAs; empty where no certificate is asked for."""
    cipher_list: str
    """The OpenSSL cipher list for TLS 1.2."""
    cipher_suites: str | None = None
    """The TLS 1.3 suites, colon-separated; None for OpenSSL's own."""
    files: Mapping[Path, bytes] = field(repr=False)
    """Every file as it was read: keys, too."""
    warnings: tuple[MaterialWarning, ...] = ()
    leaf: CertificateFacts
    """Subject, names and validity of the server's certificate."""
    key_type: str
    """``RSA-2048``, ``P-256``, ``Ed25519``, …"""


def load_material(settings: TLSSettings) -> Material:
    """Read and check all files of ``settings``.  Blocking: call it in a thread.

    :raises MaterialError: for the first thing that cannot be used.
    """
    files: dict[Path, bytes] = {}
    warnings: list[MaterialWarning] = []
    cipher_list, cipher_suites = _split_ciphers(settings.ciphers)
    certificate_file = _read("TLS_Certificate", settings.certificate, files)
    chain = _certificates("TLS_Certificate", settings.certificate, certificate_file)
    option, path = settings.key_place
    key = _private_key(option, path, _read(option, path, files))
    if _public_bytes(chain[0]) != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        reason = f'the private key does not match the first certificate of "{settings.certificate}"'
        raise MaterialError(option, path, reason)
    if _others_can_read(path):
        warnings.append(MaterialWarning(option, path, "holds a private key and can be read by every user"))
    warnings += _validity("TLS_Certificate", settings.certificate, chain)
    authorities: tuple[x509.Certificate, ...] = ()
    if settings.requests_certificate and settings.client_ca is not None:
        bundle = _read("TLS_Client_CA", settings.client_ca, files)
        authorities = _certificates("TLS_Client_CA", settings.client_ca, bundle)
        warnings += _validity("TLS_Client_CA", settings.client_ca, authorities)
    if os.environ.get("OPENSSL_CONF"):
        source = os.environ["OPENSSL_CONF"]
        reason = f'OPENSSL_CONF is set to "{source}": TLS takes settings from there that no option shows'
        warnings.append(MaterialWarning(None, None, reason))
    return Material(
        settings=settings,
        chain=chain,
        key=key,
        authorities=authorities,
        cipher_list=cipher_list,
        cipher_suites=cipher_suites,
        files=files,
        warnings=tuple(warnings),
        leaf=certificate_facts(chain[0].public_bytes(Encoding.DER)),
        key_type=_key_type(key),
    )


def _split_ciphers(ciphers: str) -> tuple[str, str | None]:
    """Part a cipher list into OpenSSL's list for TLS 1.2 and the suites of TLS 1.3, which begin with ``TLS_``."""
    if _GNUTLS.match(ciphers.strip()):
        reason = f'"{ciphers}" is a GnuTLS priority string; an OpenSSL cipher list is needed, such as "DEFAULT"'
        raise MaterialError("TLS_Ciphers", None, reason)
    names = [name for name in re.split(r"[:, ]+", ciphers) if name]
    suites = [name for name in names if name.startswith("TLS_")]
    others = [name for name in names if not name.startswith("TLS_")]
    if not names:
        raise MaterialError("TLS_Ciphers", None, "is empty")
    return ":".join(others) or "DEFAULT", ":".join(suites) or None


def _read(option: Option, path: Path, files: dict[Path, bytes]) -> bytes:
    """Read a regular file, once, within bounds."""
    if path in files:
        return files[path]
    try:
        # Not blocking, so that a FIFO does not stop everything.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise MaterialError(option, path, "cannot be read: not a regular file")
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        raise MaterialError(option, path, "does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise MaterialError(option, path, f"cannot be read: {reason}") from None
    if len(data) > _MAX_FILE:
        raise MaterialError(option, path, f"is larger than {_MAX_FILE >> 20} MiB")
    if not data.strip():
        raise MaterialError(option, path, "is empty")
    files[path] = data
    return data


def _blocks(option: Option, path: Path, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Give each PEM block: the line it begins on, its label, and all of it."""
    end = 0
    for match in _PEM.finditer(data):
        yield data.count(b"\n", 0, match.start()) + 1, match[1], match[0]
        end = match.end()
    if end == 0 and not _BEGIN.search(data):
        raise MaterialError(option, path, "is not in PEM format (no -----BEGIN line)")
    unfinished = _BEGIN.search(data, end)
    if unfinished:
        line = data.count(b"\n", 0, unfinished.start()) + 1
        raise MaterialError(option, path, f"is cut off: the PEM block of line {line} has no end")


def _certificates(option: Option, path: Path, data: bytes) -> tuple[x509.Certificate, ...]:
    certificates: list[x509.Certificate] = []
    for line, label, block in _blocks(option, path, data):
        if label not in {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}:
            continue
        try:
            certificate = x509.load_pem_x509_certificate(block)
            certificate.public_key()
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            reason = f"certificate {len(certificates) + 1} (line {line}) cannot be parsed: {error}"
            raise MaterialError(option, path, " ".join(reason.split())) from None
        certificates.append(certificate)
    if not certificates:
        raise MaterialError(option, path, "holds no certificate")
    return tuple(certificates)


def _private_key(option: Option, path: Path, data: bytes) -> PrivateKey:
    for line, label, block in _blocks(option, path, data):
        if not label.endswith(b"PRIVATE KEY"):
            continue
        if label.startswith(b"ENCRYPTED") or b"4,ENCRYPTED" in block:
            raise MaterialError(option, path, f"the private key of line {line} is encrypted, which is not supported")
        try:
            key = load_pem_private_key(block, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            reason = f"the private key of line {line} cannot be parsed: {error}"
            raise MaterialError(option, path, " ".join(reason.split())) from None
        if not isinstance(key, PrivateKey):
            raise MaterialError(option, path, f"the private key of line {line} is of a kind that TLS does not use")
        return key
    raise MaterialError(option, path, "holds no private key")


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _others_can_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # it is gone since: the watcher will tell


def _validity(option: Option, path: Path, certificates: tuple[x509.Certificate, ...]) -> Iterator[MaterialWarning]:
    now = datetime.now(UTC)
    for certificate in certificates:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if begin <= now <= end:
            continue
        subject = certificate_facts(certificate.public_bytes(Encoding.DER)).subject
        fault = f"expired on {end:%Y-%m-%d}" if now > end else f"is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        yield MaterialWarning(option, path, f'the certificate of "{subject}" {fault}')


def _key_type(key: PrivateKey) -> str:
    match key:
        case rsa.RSAPrivateKey():
            return f"RSA-{key.key_size}"
        case ec.EllipticCurvePrivateKey():
            return _CURVES.get(key.curve.name, key.curve.name)
        case ed25519.Ed25519PrivateKey():
            return "Ed25519"
        case _:
            return "Ed448"
