"""The text of a configuration file, and places in it that can be shown to a reader."""

import re
from bisect import bisect_right
from functools import cached_property, partial
from pathlib import Path

from attrs import field, frozen

from triosmtp.errors import Position, Problem, Severity

__all__ = ["Place", "Problems", "Source", "TooManyProblemsError"]

_SHOWN_COLUMNS = 400  # a longer line is not shown whole
MAX_ERRORS = 100
MAX_WARNINGS = 1000
# Of a URL, also of one that lacks its slashes: what stands between a colon and an @.
_USER_INFORMATION = partial(
    re.compile(r"(?<=:)(/{0,2})([^\s\"']+)(?=@)").sub, lambda found: found[1] + "*" * len(found[2])
)


@frozen(eq=False, slots=False)
class Source:
    """One file's text.  ``name`` is how it was given or included; relative paths in it are meant from ``folder``."""

    name: str
    text: str = field(repr=False)
    folder: Path | None = None
    trail: tuple[Path, ...] = ()
    """The files, by their true paths, through which this one was included, itself the last."""

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        find = self.text.find
        at = find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = find("\n", at + 1)
        return starts

    def position(self, offset: int) -> Position:
        """Return line and column of the character at ``offset``."""
        line = bisect_right(self._line_starts, offset)
        return Position(self.name, line, offset - self._line_starts[line - 1] + 1)

    def shown(self, position: Position) -> str:
        """Return the text of the line of ``position``, cut if it is very long; empty if the caret would not fit."""
        if position.column > _SHOWN_COLUMNS:
            return ""
        start = self._line_starts[position.line - 1]
        end = self.text.find("\n", start)
        line = self.text[start:] if end < 0 else self.text[start:end]
        line = _USER_INFORMATION(line)  # of a URL: it may be a password
        return "".join(
            c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line[:_SHOWN_COLUMNS].rstrip()
        )


@frozen(slots=True)
class Place:
    """A character in a source."""

    source: Source
    offset: int

    @property
    def position(self) -> Position:
        """File, line and column."""
        return self.source.position(self.offset)

    @property
    def character(self) -> str:
        """The character that stands here."""
        return self.source.text[self.offset]

    def after(self, characters: int) -> "Place":
        """Return the place so many characters further on."""
        return Place(self.source, self.offset + characters)

    def problem(self, severity: Severity, message: str) -> Problem:
        """Return a problem at this place; ``severity`` is ``error`` or ``warning``."""
        position = self.position
        return Problem(severity, message, position, self.source.shown(position))


class TooManyProblemsError(Exception):
    """End the reading of a configuration with too many errors.  It is handled inside this package."""


class Problems:
    """Collects what is wrong with one configuration; bounded."""

    def __init__(self) -> None:
        self._found: list[tuple[Place | None, Problem]] = []
        self._errors = 0
        self._warnings = 0

    @property
    def has_errors(self) -> bool:
        """Whether an error was found."""
        return self._errors > 0

    def error(self, place: Place, message: str) -> None:
        """Add an error.

        :raises TooManyProblemsError: at the hundredth.
        """
        problem = place.problem(Severity.ERROR, message)
        if any(problem == other for _, other in self._found[-MAX_ERRORS:]):
            return
        self._found.append((place, problem))
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._found.append((None, Problem(Severity.ERROR, f"{MAX_ERRORS} errors: the rest was not read")))
            raise TooManyProblemsError

    def warn(self, place: Place, message: str) -> None:
        """Add a warning; beyond a thousand they are left out."""
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self._found.append((place, place.problem(Severity.WARNING, message)))
        elif self._warnings == MAX_WARNINGS + 1:
            self._found.append(
                (None, Problem(Severity.WARNING, f"more than {MAX_WARNINGS} warnings: the rest is left out"))
            )

    def in_order(self) -> tuple[Problem, ...]:
        """Return all of them: file by file as they were first met, in each from top to bottom."""
        files: dict[int, int] = {}
        last = 1 << 60

        def order(found: tuple[Place | None, Problem]) -> tuple[int, int]:
            place, _ = found
            return (last, 0) if place is None else (files[id(place.source)], place.offset)

        for place, _ in self._found:
            if place is not None:
                files.setdefault(id(place.source), len(files))
        return tuple(problem for _, problem in sorted(self._found, key=order))
