"""One certificate that the server may show: its chain, its key and its OCSP response."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from attrs import field, frozen
from OpenSSL import SSL, crypto

from triosmtp.tls.ocsp import OCSPStaple, load_staple
from triosmtp.tls.pem import Files, PrivateKey, others_can_read, pem_certificates, pem_key, read_file
from triosmtp.tls.settings import CertificateFiles, MaterialError, MaterialErrors, MaterialWarning, Option
from triosmtp.x509.certificate import CertificateFacts, suppress_warnings
from triosmtp.x509.error_queue import clear_errors, error_words
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.public_key import KeyKind, PublicKey

__all__ = ["ServerCertificate", "load_certificate", "load_certificates", "validity_warnings"]


_MISMATCH: Final = re.compile("mismatch|different key types|unknown key type").search  # OpenSSL's words for it


@frozen(slots=True, kw_only=True, eq=False)
class ServerCertificate:
    """An paths that was read and checked."""

    paths: CertificateFiles
    chain: tuple[LoadedCertificate, ...] = field(repr=False)
    """As the file has it and as it is sent: the leaf first."""
    key: PrivateKey = field(repr=False)
    staple: OCSPStaple | None = None
    public_key: PublicKey
    """Kind and size of the key."""
    key_kind: KeyKind

    @property
    def leaf(self) -> CertificateFacts:
        """Subject, names and validity of the certificate."""
        return self.chain[0].facts

    @property
    def key_type(self) -> str:
        """``RSA-2048``, ``P-256``, ``Ed25519`` or another name of kind and size."""
        return self.public_key.name


def load_certificates(
    certificates: tuple[CertificateFiles, ...], files: Files, warnings: list[MaterialWarning]
) -> tuple[ServerCertificate, ...]:
    """Read and check certificates that are to stand side by side.

    :raises MaterialError: for the first thing that cannot be used.
    """
    if not certificates:
        raise MaterialError("TLS_Certificate", None, "names no certificate")
    parts = MaterialErrors()
    found = [parts.attempt(partial(load_certificate, paths, files, warnings)) for paths in certificates]
    parts.raise_any()
    loaded: dict[KeyKind, ServerCertificate] = {}
    for paths, material in zip(certificates, found, strict=True):
        assert material is not None
        other = loaded.setdefault(material.key_kind, material)
        if other is not material:
            reason = (
                f'has an {material.key_kind} key, as "{other.paths.certificate}" has: '
                "only certificates of different kinds of key can stand side by side"
            )
            raise MaterialError("TLS_Certificate", paths.certificate, reason)
    return tuple(loaded.values())


def _chain(certificate: Path, files: Files) -> tuple[LoadedCertificate, ...]:
    chain = pem_certificates("TLS_Certificate", certificate, read_file("TLS_Certificate", certificate, files))
    _check_chain(certificate, chain)
    return chain


def _key(paths: CertificateFiles, files: Files, warnings: list[MaterialWarning]) -> PrivateKey:
    option, path = paths.key_place
    return pem_key(option, path, read_file(option, path, files), _password(paths, files, warnings))


def load_certificate(paths: CertificateFiles, files: Files, warnings: list[MaterialWarning]) -> ServerCertificate:
    """Read and check one certificate with all that belongs to it; what is not as it should be goes to ``warnings``.

    :raises MaterialError: for the first thing that cannot be used.
    """
    certificate = paths.certificate
    option, path = paths.key_place
    parts = MaterialErrors()
    chain = parts.attempt(partial(_chain, certificate, files))
    if chain is not None or path != certificate:  # else an error of the same file would be reported twice
        key = parts.attempt(partial(_key, paths, files, warnings))
    parts.raise_any()
    assert chain is not None
    assert key is not None
    public = chain[0].key
    if public is None or public.kind is None:
        why = "OpenSSL cannot use" if public is None else f"TLS does not use ({public.name})"
        raise MaterialError("TLS_Certificate", certificate, f"its first certificate has a kind of key that {why}")
    _check_key(paths, chain[0], key)
    if others_can_read(path):
        warnings.append(MaterialWarning(option, path, "holds a private key and can be read by every user"))
    warnings += validity_warnings("TLS_Certificate", certificate, chain)
    staple = None
    if paths.ocsp_response is not None:
        staple = load_staple(paths.ocsp_response, chain, files, warnings)
    return ServerCertificate(paths=paths, chain=chain, key=key, staple=staple, public_key=public, key_kind=public.kind)


def _check_key(paths: CertificateFiles, leaf: LoadedCertificate, key: PrivateKey) -> None:
    """Ensure that the key is that of the certificate, at the lowest security level: which one holds is known later."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    option, path = paths.key_place
    try:
        with suppress_warnings():
            context.use_certificate(leaf.openssl)
            context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        words = error_words(error)
        reason = f'the private key does not match the first certificate of "{paths.certificate}"'
        if not _MISMATCH(words):
            reason = f'the private key cannot be used with the first certificate of "{paths.certificate}": {words}'
        raise MaterialError(option, path, reason) from None
    finally:
        clear_errors()


def _check_chain(path: Path, chain: tuple[LoadedCertificate, ...]) -> None:
    """Ensure that each certificate was issued by the next one of the file, as TLS 1.2 wants it (RFC 5246, 7.4.2)."""
    for number, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        if certificate.is_issued_by(issuer):
            continue
        reason = f'certificate {number} was not issued by the next one of the file, "{issuer.subject}"'
        place = next((at for at, each in enumerate(chain, start=1) if certificate.is_issued_by(each)), None)
        if place is not None and place != number:
            reason += f": that is certificate {place}, which must stand right behind it"
        raise MaterialError("TLS_Certificate", path, reason)


def _password(paths: CertificateFiles, files: Files, warnings: list[MaterialWarning]) -> tuple[Path, bytes] | None:
    path = paths.password_file
    if path is None:
        return None
    if others_can_read(path):
        warning = MaterialWarning("TLS_Key_Password_File", path, "holds a password and can be read by every user")
        if warning not in warnings:
            warnings.append(warning)
    return path, read_file("TLS_Key_Password_File", path, files).strip()


def validity_warnings(
    option: Option, path: Path, certificates: tuple[LoadedCertificate, ...]
) -> Iterator[MaterialWarning]:
    """Name the certificates that are out of their time."""
    for certificate in certificates:
        fault = certificate.validity_fault()
        if fault is not None:
            yield MaterialWarning(option, path, f'the certificate of "{certificate.subject}" {fault}')
