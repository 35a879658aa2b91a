"""The known name that was probably meant: one that is misspelt, or of which only some words were written."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["misspelt", "nearest", "suggest"]

_LONGEST = 64  # the comparison takes quadratic time
_ALIKE = 0.8
_MOST = 3  # names in one suggestion; of more, none is what was meant
_SHORTEST = 3  # characters of a word that is cut short
_OF_A_FILE = re.compile(r"_?(?:file|path)$")  # what others call TLS_Key_File is TLS_Key


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``name``, without regard to case, or ``A or B``; None if none is."""
    names = {each.lower(): each for each in known}
    short = _OF_A_FILE.sub("", name.lower())
    return misspelt(name, names.values()) or names.get(short) or _by_words(name, names) or _by_words(short, names)


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs from ``name`` in a letter or two; None if there is none."""
    if len(name) > _LONGEST:
        return None
    names = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), names, n=1, cutoff=_ALIKE)
    return names[matches[0]] if matches else None


def _by_words(name: str, names: dict[str, str]) -> str | None:
    """Find the names that hold every word of ``name``: those that begin with them first, the shortest of these."""
    words = _words(name)
    if not words or len(name) > _LONGEST:
        return None
    ranked: dict[tuple[bool, int], list[str]] = {}
    for lower, known in names.items():
        others = _words(lower)
        begins = len(words) <= len(others) and all(map(_is_short_for, words, others))
        if begins or all(any(_is_short_for(word, other) for other in others) for word in words):
            ranked.setdefault((not begins, len(others)), []).append(known)
    found = ranked[min(ranked)] if ranked else []
    return " or ".join(found) if 0 < len(found) <= _MOST else None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _is_short_for(word: str, other: str) -> bool:
    return word == other or (len(word) >= _SHORTEST and other.startswith(word))


def suggest(name: str | None) -> str:
    """Return the end of an error message: which name was probably meant, if one is near."""
    return "" if name is None else f"; did you mean {name}?"
