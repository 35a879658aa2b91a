"""Whether a client CA bundle holds authorities that sell certificates to everybody.

If TLS_Verified_Peer_Can_Relay is on, every customer of such an authority may relay: seldom what was meant.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from OpenSSL import crypto

from triosmtp.x509.certificate import key_digest, suppress_warnings
from triosmtp.x509.distinguished_name import read_name
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["public_authorities"]

_PUBLIC: Final = re.compile(
    r"(actalis|affirmtrust|amazon|buypass|certainly|certsign|certum|comodo|cpanel|d-trust|digicert|e-tugra|entrust|"
    r"equifax|geotrust|gandi|globalsign|godaddy|google trust services|harica|hellenic academic|identrust|"
    r"internet security research group|isrg|let's encrypt|microsoft corporation|network solutions|quovadis|rapidssl|"
    r"secom trust|sectigo|securetrust|ssl corp|starfield|swisssign|t-systems|telia|telekom security|thawte|"
    r"the go daddy group|the usertrust network|trustcor|trustwave|twca|verisign|wisekey|xramp|zerossl)\b",
    re.IGNORECASE,
)
"""How the organisations of the large public authorities begin: their intermediates are in no system's bundle."""

_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSDs
)
"""The authorities that a machine trusts: mostly those of Mozilla."""
_OWN: Final = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors", "/etc/pki/trust/anchors")
"""The folders for an organisation's own authorities, which the system's bundle then contains, too."""
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def public_authorities(bundle: Iterable[LoadedCertificate]) -> tuple[str, ...]:
    """Return the subjects of those certificates of ``bundle`` that belong to public authorities of the Web.

    They are recognised by their keys, which the system's bundle holds, or by their organisation.  Blocking.
    """
    known = set(_keys(map(Path, _SYSTEM))) - set(_keys(_own_files()))
    return tuple(each.subject for each in bundle if each.facts.spki_sha256 in known or _is_named_so(each))


def _own_files() -> Iterator[Path]:
    for folder in map(Path, _OWN):
        with suppress(OSError):
            yield from folder.rglob("*")


def _keys(files: Iterable[Path]) -> Iterator[str]:
    """Return the hashes of the public keys of all certificates in ``files``, except those that cannot be read."""
    for file in files:
        with suppress(OSError):
            for match in _PEM.finditer(file.read_bytes()):
                with suppress(ValueError, crypto.Error):
                    yield key_digest(crypto.load_certificate(crypto.FILETYPE_ASN1, b64decode(match[1])))


def _is_named_so(certificate: LoadedCertificate) -> bool:
    with suppress(ValueError), suppress_warnings():
        return any(map(_PUBLIC.match, read_name(certificate.openssl.get_subject()).values("O")))
    return False
