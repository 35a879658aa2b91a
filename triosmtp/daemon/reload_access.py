"""Whether the user who serves can read again the files that root has read: at a reload, and when they are renewed.

The check runs as that user, after root privileges were dropped.  Only the kernel knows all that decides: modes, access
control lists, mount options, and each folder of the path.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from triosmtp.config import Config, load_config
from triosmtp.errors import ConfigError, Problem, Severity
from triosmtp.server.tls_contexts import TLSUsers, material_problem
from triosmtp.tls import MaterialWarning
from triosmtp.tls.path_entries import entries_of

__all__ = ["access_warnings", "read_obstacle"]


def access_warnings(config: Config, path: Path, users: TLSUsers, name: str) -> list[Problem]:
    """Warn of each file that the user ``name``, as whom this process runs, cannot read again.

    ``path`` is the file of ``config``; ``users`` are the settings of TLS contexts with their options.
    """
    problems: list[Problem] = []
    try:
        load_config(path)
    except ConfigError as error:
        reasons = "; ".join(problem.message for problem in error.problems[:3])
        problems.append(Problem(Severity.WARNING, f'{config.path}: a reload will fail: user "{name}": {reasons}'))
    hidden: set[Path] = set()
    for tls, (settings, server_names) in users.items():
        for option, file in tls.files:
            reason = read_obstacle(file)
            if reason:
                text = (
                    f'user "{name}" cannot read it again: {reason}. What was read as root serves until the process '
                    "ends; its renewal will fail, and so will a reload"
                )
                warning = MaterialWarning(option, file, text)
                problems.append(material_problem(settings, server_names, warning, Severity.WARNING))
            else:
                hidden.update(_unlisted(file))
    problems += [
        Problem(Severity.WARNING, f'{folder}: user "{name}" cannot list it: renewed files are noticed late')
        for folder in sorted(hidden)
    ]
    return list(dict.fromkeys(problems))


def read_obstacle(path: Path) -> str:
    """Return the reason why this process cannot read ``path``; ``""`` if it can."""
    try:
        with path.open("rb"):
            return ""
    except PermissionError:
        for folder in _folders(path):
            if not os.access(folder, os.X_OK):
                return f"no access to folder {_described(folder)}"
        return f"no access to {_described(path.resolve())}"
    except OSError as error:
        return error.strerror or str(error)


def _unlisted(path: Path) -> Iterable[Path]:
    """Return the folders of ``path`` that cannot be watched: inotify(7) needs the permission to read them."""
    return [folder for folder in _folders(path) if not os.access(folder, os.R_OK)]


def _folders(path: Path) -> list[Path]:
    return sorted({entry.parent for entry in entries_of([path])}, key=lambda folder: (len(folder.parts), folder))


def _described(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return str(path)
    user, group = str(found.st_uid), str(found.st_gid)
    with suppress(KeyError):
        user = pwd.getpwuid(found.st_uid).pw_name
    with suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return f"{path} ({stat.filemode(found.st_mode)} {user} {group})"
