"""Whether the certificate of a server is the expected one: by authorities and name, or by fingerprint."""

import hashlib
from collections.abc import Collection
from ipaddress import ip_address
from typing import Literal, TypeAlias

from triosmtp.domain import DomainError, pattern_key
from triosmtp.errors import TrioSMTPError
from triosmtp.tls.client import TLSClient
from triosmtp.tls.verify_callback import verify_error_text
from triosmtp.x509.certificate import certificate_facts

__all__ = ["ServerIdentityError", "VerifyMode", "check_server_identity", "matches_host", "matches_name"]

VerifyMode: TypeAlias = Literal["no", "ca", "host"]


class ServerIdentityError(TrioSMTPError):
    """The certificate of a server is not the expected one; the text says why."""


def check_server_identity(
    client: TLSClient, mode: VerifyMode, name: str, fingerprints: Collection[tuple[str, str]] = ()
) -> None:
    """Check the certificate of a server after the handshake.

    ``mode`` is ``host`` for its authorities and its ``name``, a host name or an address; ``ca`` for its authorities;
    ``no`` for none of them.  If there are ``fingerprints``, pairs of ``sha256`` or ``spki`` and digits, it must have
    one of them, and nothing else matters.

    :raises ServerIdentityError: if it is not the expected one.
    """
    der = client.certificate
    if der is None:
        raise ServerIdentityError("the server shows no certificate")
    if fingerprints:
        found = {("sha256", hashlib.sha256(der).hexdigest()), ("spki", certificate_facts(der).spki_sha256 or "")}
        if found.isdisjoint(fingerprints):
            raise ServerIdentityError("the certificate of the server has none of TLS_Fingerprints")
        return
    if mode == "no":
        return
    seen = client.verification
    if not seen.is_verified:
        reason = verify_error_text(seen.code) if seen.code else "it was not verified"
        raise ServerIdentityError(f"the certificate of the server does not verify: {reason}")
    if mode == "host" and not matches_host(der, name):
        raise ServerIdentityError(f"the certificate of the server is not for {name}")


def matches_host(der: bytes, host: str) -> bool:
    """Return whether a certificate is for ``host``: a name (see :func:`matches_name`), or an IP address."""
    try:
        address = ip_address(host)
    except ValueError:
        return matches_name(der, host)
    return f"ip:{address}" in certificate_facts(der, every_name=True).sans


def matches_name(der: bytes, host: str) -> bool:
    """Return whether a certificate is for ``host``: by its DNS names alone, a wildcard is a whole label (RFC 9525)."""
    names = [name[4:] for name in certificate_facts(der, every_name=True).sans if name.startswith("dns:")]
    keys = {_pattern(name) for name in names if name.isascii()}
    key = _pattern(host.removesuffix("."))
    above = (key or "").partition(".")[2]
    return key is not None and (key in keys or (bool(above) and f"*.{above}" in keys))


def _pattern(name: str) -> str | None:
    try:
        return pattern_key(name)
    except DomainError:
        return None
