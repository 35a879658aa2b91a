"""The command ``triosmtp passwd``: files of passwords for AUTH."""

import getpass
import os
import sys
import tempfile
from pathlib import Path

from triosmtp.auth import hash_password, is_hash, prepare_password, split_lines, user_of

__all__ = ["passwd_command"]


def passwd_command(
    path: Path, user: str | None, *, scheme: str, from_stdin: bool, delete: bool, list_users: bool
) -> int:
    """Set, delete or list users of the file at ``path``; return the exit status.

    The file is replaced whole, with its mode and owner; a new one is 0600.  A server that runs takes it at the next
    attempt.
    """
    try:
        lines = split_lines(path.read_bytes().decode("utf-8")) if path.exists() else []
        if lines and not lines[-1]:
            lines.pop()  # what follows the last line's end is none
        if list_users:
            for line in lines:
                name = _user_of(line)
                if name:
                    print(f"{name}: {_kind(line.partition(':')[2])}")
            return 0
        if not user:
            return _wrong("expected a user")
        user = _named(user)
        rest = [line for line in lines if _user_of(line) != user]
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


def _named(user: str) -> str:
    """Return the name as a line begins with it.

    :raises ValueError: if that line would be none of this user.
    """
    user = prepare_password(user)
    if ":" in user or user != user.strip() or user.startswith("#") or not user.isprintable():
        raise ValueError("expected a user without a colon, and without # or a space in front or a space behind")
    return user


def _user_of(line: str) -> str | None:
    try:
        return user_of(line)
    except ValueError:
        return None  # `triosmtp check` reports it


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
    if scheme != "cleartext":
        return hash_password(password, scheme)
    if is_hash(password):
        raise ValueError("a password that would be taken for a hash cannot be stored as clear text")
    return password


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
