"""The TLS options of the configuration as values, and the errors of certificate material."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from attrs import frozen

from triosmtp.errors import TrioSMTPError

__all__ = [
    "PROTOCOLS",
    "CertificateFiles",
    "ClientPurpose",
    "MaterialError",
    "MaterialErrors",
    "MaterialWarning",
    "Option",
    "Protocol",
    "TLSSettings",
]

_T = TypeVar("_T")

Option: TypeAlias = Literal[
    "TLS_Certificate", "TLS_Key", "TLS_Key_Password_File", "TLS_OCSP_Response", "TLS_Client_CA", "TLS_Client_CRL",
    "TLS_Protocols", "TLS_CA", "TLS_Ciphers", "TLSv13_Ciphersuites", "TLS_EC_Curve_Names", "TLS_DHParams_File",
]  # fmt: skip
Protocol: TypeAlias = Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"]

ClientPurpose: TypeAlias = Literal["client", "client-or-server"]

PROTOCOLS: Final[tuple[Protocol, ...]] = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
"""Every protocol version that can be enabled, the oldest first."""


class MaterialError(TrioSMTPError):
    """Material that cannot be used: which option, which file (None if no file is meant), and why."""

    def __init__(self, option: Option, path: Path | None, reason: str) -> None:
        self.option: Option = option
        self.path = path
        self.reason = reason
        self.others: tuple[MaterialError, ...] = ()
        """Other errors that were found at the same time."""
        super().__init__(_sentence(option, path, reason))

    @property
    def every(self) -> "tuple[MaterialError, ...]":
        """This one, and the others."""
        return (self, *self.others)


class MaterialErrors:
    """Collects the errors of parts that do not depend on one another, so that none hides another."""

    def __init__(self) -> None:
        self._found: list[MaterialError] = []

    def attempt(self, make: Callable[[], _T]) -> _T | None:
        """Return what ``make`` returns; None if that is an error, which is kept."""
        try:
            return make()
        except MaterialError as error:
            self._found += error.every
            return None

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raise the first error, with the others.

        :raises MaterialError: if there is one.
        """
        if self._found:
            first, *others = {str(each): each for each in self._found}.values()
            first.others = tuple(others)
            raise first


@frozen(slots=True)
class MaterialWarning:
    """Material that works and should not be as it is.  ``option`` is None if it is the environment that is meant."""

    option: Option | None
    path: Path | None
    reason: str

    def __str__(self) -> str:
        return _sentence(self.option, self.path, self.reason)


def _sentence(option: Option | None, path: Path | None, reason: str) -> str:
    subject = " ".join(part for part in (option or "", "" if path is None else f'"{path}"') if part)
    return f"{subject}: {reason}" if subject else reason


@frozen(slots=True)
class CertificateFiles:
    """The files of one certificate that the server may show."""

    certificate: Path
    """PEM: leaf first, then its chain; may also hold the key."""
    key: Path | None = None
    """PEM private key; None if the certificate file holds it."""
    password_file: Path | None = None
    """Holds the password of an encrypted key, and white space around it that does not count."""
    ocsp_response: Path | None = None
    """DER: the authority's word that the certificate is not revoked, sent along to clients that ask (RFC 6066)."""

    @property
    def key_place(self) -> tuple[Option, Path]:
        """Which option names the file with the private key, and the file."""
        return ("TLS_Certificate", self.certificate) if self.key is None else ("TLS_Key", self.key)

    @property
    def files(self) -> Iterator[tuple[Option, Path]]:
        """Every file of it, with the option that names it."""
        yield "TLS_Certificate", self.certificate
        if self.key is not None:
            yield "TLS_Key", self.key
        if self.password_file is not None:
            yield "TLS_Key_Password_File", self.password_file
        if self.ocsp_response is not None:
            yield "TLS_OCSP_Response", self.ocsp_response


@frozen(slots=True, kw_only=True, cache_hash=True)  # a key that each handshake looks up
class TLSSettings:
    """The effective TLS options of a listener, a Listen or a Peer; equal settings share one context."""

    certificates: tuple[CertificateFiles, ...]
    """One for each kind of key (RSA, ECDSA, …): the client's offer decides which of them it is shown."""
    server_names: tuple[tuple[str, tuple[CertificateFiles, ...]], ...] = ()
    """Other certificates for clients that ask for a server name: exact, or with ``*`` for the left-most label."""
    client_ca: Path | None = None
    """PEM bundle of the authorities that client certificates are verified against."""
    client_crls: tuple[Path, ...] = ()
    """PEM files of revocation lists.  If there are any, clients of an authority without a list do not verify."""
    client_purpose: ClientPurpose = "client"
    """What a client's certificate must be for; see :mod:`.server_purpose`."""
    request_certificate: bool = False
    """Whether a client is asked for a certificate; without ``client_ca`` none ever verifies."""
    send_client_ca_names: bool = True
    """Whether the names of our authorities are sent to the client (RFC 8446, section 4.2.4)."""
    verify_depth: int = 9
    """How many intermediates may stand between a client's certificate and one of the bundle."""
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    """Names out of :data:`PROTOCOLS`, ascending."""
    ciphers: str = "DEFAULT"
    """OpenSSL's cipher list; names that begin with ``TLS_`` select the suites of TLS 1.3."""
    cipher_suites: str | None = None
    """The suites of TLS 1.3, colon-separated; None: those of ``ciphers``, or OpenSSL's own."""
    groups: tuple[str, ...] = ()
    """OpenSSL's names for groups of key exchange, the preferred first; empty for OpenSSL's own."""
    dhparams_file: Path | None = None
    """PEM Diffie-Hellman parameters; None for a group of RFC 7919."""
    enable_dhe: bool = True
    """Whether DHE suites may be used (ECDHE ones may always)."""
    allow_renegotiation: bool = False
    """Whether a client may renegotiate in TLS 1.2 and before."""

    def shared(self) -> "TLSSettings":
        """Return the one object that stands for all equal ones: a look-up by it compares nothing."""
        return _SHARED.setdefault(self, self)

    @property
    def files(self) -> Iterator[tuple[Option, Path]]:
        """Every file that a context of these settings is made of, with the option that names it."""
        for group in (self.certificates, *(group for _, group in self.server_names)):
            for paths in group:
                yield from paths.files
        if self.request_certificate:
            if self.client_ca is not None:
                yield "TLS_Client_CA", self.client_ca
            for path in self.client_crls:
                yield "TLS_Client_CRL", path
        if self.enable_dhe and self.dhparams_file is not None:
            yield "TLS_DHParams_File", self.dhparams_file


_SHARED: Final[WeakValueDictionary[TLSSettings, TLSSettings]] = WeakValueDictionary()
