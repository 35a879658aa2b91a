"""Certificate material: files read once, checked, and kept as bytes and facts.

All that an operator can get wrong is found here and named by option and path, before a context is built and long before
a client connects.  Nothing is read again later: what was checked is what is used.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

from attrs import field, frozen

from triosmtp.tls.cipher import check_ciphers, check_suites, split_ciphers
from triosmtp.tls.dh import group_for, group_parameters, load_parameters
from triosmtp.tls.key_exchange_groups import check_groups
from triosmtp.tls.pem import Files, pem_authorities, read_file
from triosmtp.tls.revocation import RevocationList, load_revocation_lists
from triosmtp.tls.server_certificate import ServerCertificate, load_certificates, validity_warnings
from triosmtp.tls.settings import PROTOCOLS, MaterialError, MaterialErrors, MaterialWarning, TLSSettings
from triosmtp.x509.certificate import suppress_warnings
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["Material", "load_material", "read_files"]


@frozen(kw_only=True, eq=False)
class Material:
    """What :func:`.context.build_context` builds from, and what there is to show of it."""

    settings: TLSSettings
    certificates: tuple[ServerCertificate, ...]
    """The certificates for a client that asks for no server name, or for one that has no certificates of its own."""
    server_names: Mapping[str, tuple[ServerCertificate, ...]] = field(factory=dict)
    authorities: tuple[LoadedCertificate, ...] = field(default=(), repr=False)
    """The client CAs; empty if no certificate is requested, or none can verify."""
    revocations: tuple[RevocationList, ...] = field(default=(), repr=False)
    cipher_list: str
    """The OpenSSL cipher list for TLS 1.2."""
    cipher_suites: str | None = None
    """The TLS 1.3 suites, colon-separated; None for OpenSSL's own."""
    dh_parameters: bytes | None = field(default=None, repr=False)
    """In PEM; None if DHE is off."""
    files: Mapping[Path, bytes | str] = field(repr=False)
    """Every file of the settings as it was read: keys, too."""
    warnings: tuple[MaterialWarning, ...] = ()

    @cached_property
    def unfinished(self) -> tuple[LoadedCertificate, ...]:
        """The client CAs whose own issuer is none of them, or out of its time.

        Without any, every chain can go up to a root of the bundle, and what each authority on the way demands holds.
        With one, chains must be able to end at authorities that are no roots.
        """
        in_time = [each for each in self.authorities if each.validity_fault() is None]
        return tuple(
            each for each in self.authorities if not any(each.is_issued_by(issuer) for issuer in (each, *in_time))
        )

    @property
    def every_certificate(self) -> tuple[ServerCertificate, ...]:
        """The certificates of all server names, the Listen's own first."""
        return (*self.certificates, *(each for group in self.server_names.values() for each in group))


def read_files(settings: TLSSettings, files: Files) -> Mapping[Path, bytes | str]:
    """Read each file of ``settings`` that is not in ``files`` yet; return its content, or why it cannot be read."""
    for option, path in settings.files:
        with suppress(MaterialError):
            read_file(option, path, files)
    return {path: files[path] for _, path in settings.files}


def load_material(settings: TLSSettings, files: Files | None = None) -> Material:
    """Read and check all files of ``settings``; what is in ``files`` was read before.  Blocking: call it in a thread.

    :raises MaterialError: for the first thing that cannot be used; the error has the others, too.
    """
    files = {} if files is None else files
    warnings: list[MaterialWarning] = []
    parts = MaterialErrors()
    parts.attempt(partial(_check_protocols, settings))
    ciphers = parts.attempt(partial(split_ciphers, settings.ciphers, settings.cipher_suites))
    if settings.cipher_suites is not None:
        parts.attempt(partial(check_suites, settings.cipher_suites))
    parts.attempt(partial(check_groups, settings.groups))
    certificates = parts.attempt(partial(load_certificates, settings.certificates, files, warnings))
    server_names = {
        name: parts.attempt(partial(load_certificates, group, files, warnings)) or ()
        for name, group in settings.server_names
    }
    vouching = parts.attempt(partial(_authorities, settings, files, warnings))
    dh_parameters = parts.attempt(partial(_dh_parameters, settings, certificates or (), files))
    if parts:  # else the context tries them
        parts.attempt(partial(check_ciphers, settings.ciphers))
    parts.raise_any()
    assert ciphers is not None
    assert certificates is not None
    assert vouching is not None
    if os.environ.get("OPENSSL_CONF"):
        source = os.environ["OPENSSL_CONF"]
        reason = f'OPENSSL_CONF is set to "{source}": TLS takes settings from there that no option shows'
        warnings.append(MaterialWarning(None, None, reason))
    return Material(
        settings=settings,
        certificates=certificates,
        server_names=server_names,
        authorities=vouching[0],
        revocations=vouching[1],
        cipher_list=ciphers[0],
        cipher_suites=ciphers[1],
        dh_parameters=dh_parameters,
        files={path: files[path] for _, path in settings.files},
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _check_protocols(settings: TLSSettings) -> None:
    unknown = [name for name in settings.protocols if name not in PROTOCOLS]
    if unknown:
        raise MaterialError("TLS_Protocols", None, f'"{unknown[0]}" is not a protocol version that can be enabled')
    if not settings.protocols:
        raise MaterialError("TLS_Protocols", None, "leaves no protocol version")


def _dh_parameters(settings: TLSSettings, certificates: tuple[ServerCertificate, ...], files: Files) -> bytes | None:
    if not settings.enable_dhe:
        return None
    if settings.dhparams_file is not None:
        return load_parameters(settings.dhparams_file, files)
    if not certificates:
        return None  # they cannot be used, which is reported
    return group_parameters(group_for(tuple(certificate.public_key for certificate in certificates)))


def _authorities(
    settings: TLSSettings, files: Files, warnings: list[MaterialWarning]
) -> tuple[tuple[LoadedCertificate, ...], tuple[RevocationList, ...]]:
    if not settings.request_certificate:
        return (), ()
    path = settings.client_ca
    parts = MaterialErrors()
    authorities: tuple[LoadedCertificate, ...] = ()
    if path is not None:
        authorities = parts.attempt(partial(_bundle, path, files, warnings)) or ()
        warnings += validity_warnings("TLS_Client_CA", path, authorities)
    revocations: list[RevocationList] = []
    for file in settings.client_crls:
        revocations += parts.attempt(partial(_revocation_lists, file, files, warnings)) or ()
    parts.raise_any()
    if settings.client_crls and path is not None:
        warnings += _authorities_without_revocations(path, authorities, revocations)
    return authorities, tuple(revocations)


def _bundle(path: Path, files: Files, warnings: list[MaterialWarning]) -> tuple[LoadedCertificate, ...]:
    return pem_authorities(path, read_file("TLS_Client_CA", path, files), warnings)


def _revocation_lists(path: Path, files: Files, warnings: list[MaterialWarning]) -> Iterable[RevocationList]:
    return load_revocation_lists(path, read_file("TLS_Client_CRL", path, files), warnings)


def _authorities_without_revocations(
    path: Path, authorities: tuple[LoadedCertificate, ...], revocations: list[RevocationList]
) -> Iterator[MaterialWarning]:
    """Name the authorities whose clients will never be verified, because only leaves are looked up in the lists.

    One that issued another of the bundle is taken for a root that issues no client certificates itself.
    """
    with suppress_warnings():
        pairs = [(each.openssl.get_subject(), each.openssl.get_issuer()) for each in authorities]
    above = [issuer for subject, issuer in pairs if issuer != subject]
    for authority, (subject, _) in zip(authorities, pairs, strict=True):
        if subject not in above and all(each.name != subject for each in revocations):
            reason = f'"{authority.subject}" has no revocation list in TLS_Client_CRL: none of its clients is verified'
            yield MaterialWarning("TLS_Client_CA", path, reason)
