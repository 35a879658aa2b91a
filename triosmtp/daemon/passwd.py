"""The command ``triosmtp passwd``: files of passwords for AUTH."""

import getpass
import os
import sys
import tempfile
from pathlib import Path

from triosmtp.auth import hash_password, prepare_password

__all__ = ["passwd_command"]


def passwd_command(
    path: Path, user: str | None, *, scheme: str, from_stdin: bool, delete: bool, list_users: bool
) -> int:
    """Set, delete or list users of the file at ``path``; give the exit status.

    The file is replaced whole, with its mode and owner; a new one is 0600.  A server that runs takes it at the next
    attempt.
    """
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if list_users:
            for line in lines:
                name, stored = _split(line)
                if name:
                    print(f"{name}: {_kind(stored)}")
            return 0
        if user is None or not user or ":" in user or user.startswith("#") or not user.isprintable():
            return _wrong("expected a user without a colon")
        rest = [line for line in lines if _split(line)[0] != user]
        if delete:
            if len(rest) == len(lines):
                return _wrong(f"{path} has no user {user}")
        else:
            rest.append(f"{user}:{_new_password(scheme, from_stdin=from_stdin)}")
        _replace(path, "".join(f"{line}\n" for line in rest))
    except OSError as error:
        return _wrong(f"{error.filename or path}: {error.strerror}")
    except (ValueError, EOFError) as error:
        return _wrong(str(error) or "no password")
    return 0


def _wrong(message: str) -> int:
    print(f"triosmtp passwd: {message}", file=sys.stderr)
    return 1


def _split(line: str) -> tuple[str, str]:
    if line.lstrip().startswith("#"):
        return "", ""
    name, _, stored = line.partition(":")
    return name, stored


def _kind(stored: str) -> str:
    if stored.startswith("$"):
        return stored.split("$")[1]
    return "scram-sha-256" if stored.startswith("SCRAM-SHA-256$") else "cleartext"


def _new_password(scheme: str, *, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass.getpass("New password: ")
        if getpass.getpass("The same again: ") != password:
            raise ValueError("the two are not the same: nothing was changed")
    password = prepare_password(password)
    return password if scheme == "cleartext" else hash_password(password, scheme)


def _replace(path: Path, text: str) -> None:
    """Put ``text`` in the file's place in one step: a server never reads half of it."""
    path = path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if path.exists():
                status = path.stat()
                os.fchmod(file.fileno(), status.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
