"""Certificate files: read once, within bounds, and parsed; an error names option, path and line."""

import binascii
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from OpenSSL import crypto

from triosmtp.filesystem import open_regular
from triosmtp.tls.settings import MaterialError, MaterialWarning, Option
from triosmtp.x509.error_queue import clear_errors, error_words
from triosmtp.x509.loaded_certificate import LoadedCertificate
from triosmtp.x509.public_key import read_key

__all__ = [
    "Files", "PrivateKey", "file_in_memory", "others_can_read", "pem_authorities", "pem_blocks", "pem_certificates",
    "pem_key", "read_file",
]  # fmt: skip

PrivateKey: TypeAlias = crypto.PKey
Files: TypeAlias = dict[Path, bytes | str]
"""Every file that was read: its content, or why it cannot be read.  None is read twice."""

_MAX_FILE: Final = 4 << 20  # bytes: the CA bundle of a whole operating system is a tenth of it
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9. ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(rb"-----BEGIN ")
_TRUSTED: Final = b"TRUSTED CERTIFICATE"  # a certificate, and the purposes that OpenSSL trusts it for


def read_file(option: Option, path: Path, files: Files) -> bytes:
    """Read a regular file, once, within bounds.

    :raises MaterialError: if it cannot be read, is empty or far too large.
    """
    if path not in files:
        files[path] = _content(path)
    content = files[path]
    if isinstance(content, str):
        raise MaterialError(option, path, content)
    return content


def _content(path: Path) -> bytes | str:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot be read: {reason}"
    if len(data) > _MAX_FILE:
        return f"is larger than {_MAX_FILE >> 20} MiB"
    return data if data.strip() else "is empty"


@contextmanager
def file_in_memory(data: bytes) -> Iterator[str]:
    """Return a path to ``data``, for what OpenSSL reads from paths alone: what was checked, not what lies there now."""
    descriptor = os.memfd_create("triosmtp", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def others_can_read(path: Path) -> bool:
    """Return whether every user of this machine may read the file."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # it is gone since: the watcher will tell


def pem_blocks(option: Option, path: Path, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Return each PEM block: the line it begins on, its label, and all of it.

    :raises MaterialError: if there is none, or one has no end.
    """
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


def pem_certificates(option: Option, path: Path, data: bytes) -> tuple[LoadedCertificate, ...]:
    """Return the certificates of a file, in its order.

    :raises MaterialError: if there is none, or OpenSSL cannot parse one.
    """
    return tuple(certificate for _, certificate in _certificates(option, path, data))


def pem_authorities(
    path: Path, data: bytes, warnings: list[MaterialWarning], option: Option = "TLS_Client_CA"
) -> tuple[LoadedCertificate, ...]:
    """Return the authorities of a file that OpenSSL can verify with; the others go to ``warnings``.

    :raises MaterialError: if there is none, or OpenSSL cannot parse one.
    """
    usable: list[LoadedCertificate] = []
    reasons: list[str] = []
    for place, certificate in _certificates(option, path, data):
        if certificate.key is None:
            why = "OpenSSL cannot use its kind of key"
        elif place.label == _TRUSTED:
            why = "a TRUSTED CERTIFICATE has settings of trust that are not used here (openssl x509 writes it without)"
        else:
            usable.append(certificate)
            continue
        reasons.append(f'{place} is left out, and vouches for nobody: "{certificate.subject}": {why}')
    if not usable:
        raise MaterialError(option, path, reasons[0])
    warnings += [MaterialWarning(option, path, reason) for reason in reasons]
    return tuple(usable)


class _Place(NamedTuple):
    number: int
    line: int
    label: bytes

    def __str__(self) -> str:
        return f"certificate {self.number} (line {self.line})"


def _certificates(option: Option, path: Path, data: bytes) -> Iterator[tuple[_Place, LoadedCertificate]]:
    number = 0
    for line, label, block in pem_blocks(option, path, data):
        if label not in {b"CERTIFICATE", b"X509 CERTIFICATE", _TRUSTED}:
            continue
        number += 1
        place = _Place(number, line, label)
        try:
            yield place, _parsed(label, block)
        except ValueError as error:
            raise MaterialError(option, path, " ".join(f"{place} cannot be parsed: {error}".split())) from None
    if not number:
        raise MaterialError(option, path, "holds no certificate")


def _parsed(label: bytes, block: bytes) -> LoadedCertificate:
    if label != _TRUSTED:
        return LoadedCertificate.from_pem(block)
    der = binascii.a2b_base64(block[block.index(b"-----", 11) + 5 : block.rindex(b"-----END")])
    return LoadedCertificate.from_der(der)  # OpenSSL reads the certificate, and not the settings behind it


def pem_key(option: Option, path: Path, data: bytes, password: tuple[Path, bytes] | None) -> PrivateKey:
    """Return the first private key of a file; ``password`` (and the file that holds it) is for an encrypted one.

    :raises MaterialError: if there is none, or it cannot be used; the password is not part of the error.
    """
    for line, label, block in pem_blocks(option, path, data):
        if not label.endswith(b"PRIVATE KEY"):
            continue
        encrypted = label.startswith(b"ENCRYPTED") or b"4,ENCRYPTED" in block
        if encrypted and password is None:
            reason = f"the private key of line {line} is encrypted, and no TLS_Key_Password_File is given"
            raise MaterialError(option, path, reason)
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            secret = password[1] if encrypted and password else b""
            key = crypto.load_privatekey(crypto.FILETYPE_PEM, block + b"\n", secret)
            kind = read_key(key).kind
        except (ValueError, crypto.Error) as error:
            if encrypted and password:
                # The library's error for a wrong password varies with what the wrong key decrypts to.
                reason = f'does not hold the password of the private key in "{path}" (line {line})'
                raise MaterialError("TLS_Key_Password_File", password[0], reason) from None
            reason = f"the private key of line {line} cannot be parsed: {error_words(error)}"
            raise MaterialError(option, path, " ".join(reason.split())) from None
        finally:
            clear_errors()
        if kind is None:
            raise MaterialError(option, path, f"the private key of line {line} is of a kind that TLS does not use")
        return key
    raise MaterialError(option, path, "holds no private key")
