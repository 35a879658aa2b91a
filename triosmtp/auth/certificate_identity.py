"""The identity that a client certificate proves (mechanism EXTERNAL).

Only a certificate that was verified in the handshake of this connection proves an identity.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from triosmtp.auth.password_file import AuthFileError
from triosmtp.domain import name_key
from triosmtp.filesystem import open_regular
from triosmtp.variables import TLSInfo

__all__ = ["IdentityMap"]

# A name that is escaped or cut off (by package tls), or that has a wildcard, proves no identity.
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'+/=?^_`{|}~.-]+").fullmatch
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]+").fullmatch
KINDS: Final = ("dns", "email", "subject_cn")


class IdentityMap:
    """Maps certificates to identities: by a name in them (``dns``, ``email``, ``subject_cn``), or by a file.

    Lines of a file are ``sha256:fingerprint identity``, ``spki:fingerprint identity``, ``dns:name identity``,
    ``email:address identity`` or ``cn:name identity``; ``#`` begins a comment.  The file is read again if it has
    changed.  Domains compare by their keys, fingerprints without regard to case.  Local parts and common names compare
    octet by octet.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind if kind in KINDS else "file"
        self.path = None if kind in KINDS else Path(kind)
        self._read: tuple[object, dict[tuple[str, str], str]] | None = None

    def identify(self, tls: TLSInfo | None) -> str | None:
        """Return the identity of the client of that handshake, or None.  It blocks if there is a file.

        :raises AuthFileError: if the file cannot be used.
        """
        if tls is None or not tls.verified or tls.client_certificate is None:
            return None
        if self._kind == "subject_cn":
            return _common_name(tls)
        if self._kind != "file":
            return next((name for kind, name in _names(tls) if kind == self._kind), None)
        known = self._entries()
        keys = (
            ("sha256", tls.client_fingerprint_sha256 or ""),
            ("spki", tls.client_spki_sha256 or ""),
            *_names(tls),
            ("cn", _common_name(tls) or ""),
        )
        return next((known[key] for key in keys if key in known), None)

    def check(self) -> None:
        """Read the file, if there is one.

        :raises AuthFileError: if it cannot be used.
        """
        if self.path is not None:
            self._entries()

    def _entries(self) -> dict[tuple[str, str], str]:
        assert self.path is not None
        try:
            status = self.path.stat()
            mark = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is not None and self._read[0] == mark:
                return self._read[1]
            with open_regular(self.path) as file:
                text = file.read().decode("utf-8-sig")  # some editors begin with a byte order mark
        except OSError as error:
            raise AuthFileError(f'"{self.path}": {error.strerror}') from error
        except UnicodeDecodeError:
            raise AuthFileError(f'"{self.path}": not UTF-8') from None
        entries: dict[tuple[str, str], str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            kind, colon, value = words[0].partition(":")
            if len(words) != 2 or not colon or kind not in {"sha256", "spki", "dns", "email", "cn"}:
                raise AuthFileError(
                    f'"{self.path}" line {number}: expected sha256:, spki:, dns:, email: or cn:, and a name'
                )
            try:
                entries[kind, _key(kind, value)] = words[1]
            except ValueError as error:
                raise AuthFileError(f'"{self.path}" line {number}: {words[0]} cannot be compared: {error}') from None
        self._read = mark, entries
        return entries


def _common_name(tls: TLSInfo) -> str | None:
    """Return the CN.  One that was cut off or escaped for display is ignored: another one may look the same."""
    name = tls.client_subject_cn
    return None if not name or "\\" in name or name.endswith("…") else name


def _key(kind: str, value: str) -> str:
    """Return a name or a fingerprint in the form to compare.

    :raises ValueError: if it is malformed.
    """
    match kind:
        case "sha256" | "spki":
            value = value.replace(":", "")
            if _HEXADECIMAL(value) is None:
                raise ValueError("a fingerprint is hexadecimal")
            return value.lower()
        case "dns":
            return name_key(value)
        case "email":
            local_part, _, domain = value.rpartition("@")
            if _LOCAL_PART(local_part) is None:
                raise ValueError("not a mail address that can be compared")
            return f"{local_part}@{name_key(domain)}"
        case _:
            if not value:
                raise ValueError("no name")
            return value


def _names(tls: TLSInfo) -> Iterator[tuple[str, str]]:
    """Yield kind and key of each DNS and e-mail name.  U-labels are not valid in them (RFC 5280, section 7.2)."""
    for kind, _, value in (each.partition(":") for each in tls.client_sans):
        if kind in {"dns", "email"} and value.isascii():
            with suppress(ValueError):
                yield kind, _key(kind, value)
