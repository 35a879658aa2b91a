"""Who a client certificate stands for (mechanism EXTERNAL).

Only a certificate that verified in this very handshake stands for anybody.
"""

import re
from pathlib import Path
from typing import Final

from triosmtp.auth.store import StoreError
from triosmtp.variables import TLSInfo

__all__ = ["IdentityMap"]

# What is escaped or cut off (by tls) is no name, nor does a wildcard stand for anybody.
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'+/=?^_`{|}~.@-]+").fullmatch
KINDS: Final = ("dns", "email", "subject_cn")


class IdentityMap:
    """Maps certificates to identities: by a name in them (``dns``, ``email``, ``subject_cn``), or by a file.

    Lines of a file are ``sha256:fingerprint identity``, ``spki:fingerprint identity``, ``dns:name identity``,
    ``email:address identity`` or ``cn:name identity``; ``#`` begins a comment.  It is read again when it has changed.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind if kind in KINDS else "file"
        self.path = None if kind in KINDS else Path(kind)
        self._read: tuple[object, dict[str, str]] | None = None

    def identify(self, tls: TLSInfo | None) -> str | None:
        """Give who the client of that handshake is, or None.  Blocking where a file is asked.

        :raises StoreError: where the file cannot be used.
        """
        if tls is None or not tls.verified or tls.client_certificate is None:
            return None
        if self._kind == "subject_cn":
            return tls.client_subject_cn or None
        if self._kind != "file":
            return next((value for kind, value in _names(tls) if kind == self._kind and _PLAIN(value)), None)
        known = self._entries()
        for kind, value in (
            ("sha256", tls.client_fingerprint_sha256 or ""),
            ("spki", tls.client_spki_sha256 or ""),
            *_names(tls),
            ("cn", tls.client_subject_cn or ""),
        ):
            found = known.get(f"{kind}:{value.lower()}")
            if value and found is not None:
                return found
        return None

    def check(self) -> None:
        """Read the file, where there is one.

        :raises StoreError: where it cannot be used.
        """
        if self.path is not None:
            self._entries()

    def _entries(self) -> dict[str, str]:
        assert self.path is not None
        try:
            status = self.path.stat()
            mark = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read is not None and self._read[0] == mark:
                return self._read[1]
            text = self.path.read_text("utf-8")
        except OSError as error:
            raise StoreError(f'"{self.path}": {error.strerror}') from error
        except UnicodeDecodeError:
            raise StoreError(f'"{self.path}": not UTF-8') from None
        entries: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            kind, colon, value = words[0].partition(":")
            if len(words) != 2 or not colon or kind not in {"sha256", "spki", "dns", "email", "cn"}:
                raise StoreError(
                    f'"{self.path}" line {number}: expected sha256:, spki:, dns:, email: or cn:, and a name'
                )
            if kind in {"sha256", "spki"}:
                value = value.replace(":", "")
            entries[f"{kind}:{value.lower()}"] = words[1]
        self._read = mark, entries
        return entries


def _names(tls: TLSInfo) -> list[tuple[str, str]]:
    return [(kind, value) for kind, _, value in (each.partition(":") for each in tls.client_sans)]
