"""Read configuration files and the files that they include.  This module blocks; no other one here reads files."""

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from triosmtp.config.check import examine, make_config
from triosmtp.config.configuration import Config
from triosmtp.config.scope import IncludeError
from triosmtp.config.source import Source
from triosmtp.errors import ConfigError, Problem, Severity

__all__ = ["examine_config", "load_config", "parse_config"]

MAX_BYTES = 4 << 20  # of one configuration with all it includes
MAX_FILES = 1000
MAX_INCLUDE_DEPTH = 16


def load_config(path: str | Path) -> Config:
    """Read the configuration in the file at ``path``, with all it includes.

    Positions tell ``path`` as it was given.  Relative paths in values are meant from the folder of their file.

    :raises ConfigError: with every problem found, a file that cannot be read among them.
    """
    source, reader = _open(path)
    return make_config(source, reader.read)


def examine_config(path: str | Path) -> tuple[Config | None, tuple[Problem, ...]]:
    """Return every problem of the configuration in the file at ``path``, and what could be read of it.

    The configuration is not fit to be served if there is an error; it is there to look for more of them.

    :raises ConfigError: if the file cannot be read.
    """
    source, reader = _open(path)
    return examine(source, reader.read)


def _open(path: str | Path) -> "tuple[Source, _FileReader]":
    reader = _FileReader(Path(path).parent.absolute())
    try:
        return reader.source(Path(path), str(path), ()), reader
    except IncludeError as error:
        raise ConfigError([Problem(Severity.ERROR, str(error))]) from error


def parse_config(text: str, name: str = "<string>", *, folder: Path | None = None) -> Config:
    """Read the configuration in ``text``; ``name`` is what positions call it.

    ``folder`` is where its relative paths are meant from; without one they stay as they are, and
    nothing can be included.

    :raises ConfigError: with every problem found.
    """
    if folder is None:
        return make_config(Source(name, text), _refuse)
    folder = folder.absolute()
    return make_config(Source(name, text, folder), _FileReader(folder).read)


def _refuse(path: str, source: Source) -> NoReturn:
    raise IncludeError(f"cannot include {path}: {source.name} has no folder to look in")


class _FileReader:
    """Follows the includes of one configuration, within bounds."""

    def __init__(self, main_folder: Path) -> None:
        self._main_folder = main_folder
        self._bytes = 0
        self._files = 0

    def read(self, path: str, including: Source) -> Iterable[Source]:
        """Return the sources that ``include "path"`` in ``including`` means.

        :raises IncludeError: if there are none, or one cannot be read.
        """
        if not path:
            raise IncludeError("expected the path of a file or folder")
        if len(including.trail) > MAX_INCLUDE_DEPTH:
            raise IncludeError(f"includes stand in each other more than {MAX_INCLUDE_DEPTH} deep")
        found = self._find(path, including)
        try:
            if not found.is_dir():
                return [self.source(found, path, including.trail)]
            entries = sorted(entry.name for entry in found.iterdir())
            files = [name for name in entries if not name.startswith(".") and (found / name).is_file()]
        except OSError as error:
            raise IncludeError(f"cannot include {path}: {error.strerror}") from error
        shown = path.rstrip("/")
        # One at a time: a folder of many files is never held whole.
        return (self.source(found / name, f"{shown}/{name}", including.trail) for name in files)

    def _find(self, path: str, including: Source) -> Path:
        folders = dict.fromkeys((including.folder or self._main_folder, self._main_folder))
        places = list(dict.fromkeys(folder / path for folder in folders))
        try:
            for place in places:
                if place.exists():
                    return place
        except OSError as error:  # a folder on the way is closed to this user
            raise IncludeError(f"cannot include {path}: {error.strerror}: {error.filename}") from error
        raise IncludeError(f"cannot include {path}: there is no {' and no '.join(map(str, places))}")

    def source(self, path: Path, name: str, trail: tuple[Path, ...]) -> Source:
        """Read one file.

        :raises IncludeError: if that is not possible, if it is not text, or if it exceeds a limit.
        """
        try:
            true_path = path.resolve()
            if true_path in trail:
                raise IncludeError(f"{name} includes itself")
            self._files += 1
            if self._files > MAX_FILES:
                raise IncludeError(f"a configuration has at most {MAX_FILES} files")
            with path.open("rb") as file:
                data = file.read(MAX_BYTES - self._bytes + 1)
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise IncludeError(f"cannot read {name}: {reason}") from error
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise IncludeError(f"cannot read {name}: a configuration has at most {MAX_BYTES >> 20} MiB")
        # Octets that are not UTF-8 are permitted in a comment; the lexer refuses them elsewhere.
        text = data.decode("utf-8", "surrogateescape").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        return Source(name, text, path.parent.absolute(), (*trail, true_path))
