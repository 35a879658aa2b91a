r"""``msys.pcre``: Perl-compatible regular expressions, bounded in time and memory.

The engine is PCRE2, the library of the system, so patterns mean what they mean in Momentum.  Python's ``re`` has
another syntax and cannot be interrupted.  PCRE2 counts its steps, but from zero for each position of the subject.  So
a search goes over the subject in pieces, each with a limit of steps, and looks at the clock between two pieces.

A match with the budget :data:`SMALL` takes a few milliseconds at most.  If that is not enough, it is repeated in a
thread with the budget :data:`LARGE`: PCRE2 runs without the lock of the interpreter.
"""

import ctypes
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from time import thread_time
from typing import Any, Final

from attrs import frozen

from triosmtp.errors import TrioSMTPError

__all__ = [
    "LARGE", "MAX_RESULT", "SMALL", "Budget", "Pattern", "PatternError", "compile_pattern", "match", "replace", "split",
]  # fmt: skip


@frozen(slots=True)
class Budget:
    """What one match, replacement or split may use: seconds of the CPU, and steps at one position of the subject."""

    seconds: float
    steps: int


SMALL: Final = Budget(0.005, 100_000)
"""For the event loop."""
LARGE: Final = Budget(0.5, 5_000_000)
"""For a thread."""
MAX_RESULT: Final = 4 * 1024 * 1024
"""Octets of the longest result of :func:`replace`."""
_LIBRARY = "libpcre2-8.so.0"
_MAX_PARTS: Final = 100_000
_MAX_PATTERN: Final = 64 * 1024
_FEW_STEPS: Final = 2000  # nearly every pattern needs fewer at one position
_HEAP_KIB: Final = 16 * 1024
_FIRST_PIECE: Final = 256
_LAST_PIECE: Final = 16 * 1024

# Of pcre2.h.
_UTF, _USE_OFFSET_LIMIT, _NOT_EMPTY_AT_START = 0x00080000, 0x00800000, 0x00000008
_BAD_ESCAPE_IS_LITERAL: Final = 0x2  # as in PCRE 1, which Momentum has
_NO_MATCH, _MATCH_LIMIT = -1, -47
_INFO_OPTIONS, _INFO_NAME_COUNT, _INFO_NAME_SIZE, _INFO_NAMES = 0, 17, 18, 19
_UNSET: Final = ctypes.c_size_t(-1).value
_UNLIMITED: Final = _UNSET

_OLD_VERB = re.compile(rb"\(\*UTF8\)")
_REFERENCE = re.compile(rb"\$(?:(\d{1,3})|\{(\w{1,32})\}|(\$))|\\(\d)")

Groups = Mapping[int | bytes, bytes]
"""0: the match; its groups by number, and by name if they have one.  A group without a match is empty."""


class PatternError(TrioSMTPError, ValueError):
    """A pattern that is malformed, or a match that exceeds a limit.  ``code`` is the number of PCRE2."""

    def __init__(self, text: str, code: int) -> None:
        self.code = code
        super().__init__(text)

    @property
    def is_limit(self) -> bool:
        """Whether a larger budget may help."""
        return self.code == _MATCH_LIMIT


@cache
def _library() -> Any:
    """Return the functions of PCRE2.

    :raises PatternError: if the library is missing.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise PatternError(f"PCRE2 is missing, install libpcre2-8: {error}", 0) from None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "compile": (pointer, [ctypes.c_char_p, size, ctypes.c_uint32, ctypes.POINTER(ctypes.c_int),
                              ctypes.POINTER(size), pointer]),
        "compile_context_create": (pointer, [pointer]),
        "set_compile_extra_options": (ctypes.c_int, [pointer, ctypes.c_uint32]),
        "code_free": (None, [pointer]),
        "match_data_create_from_pattern": (pointer, [pointer, pointer]),
        "match_data_free": (None, [pointer]),
        "match": (ctypes.c_int, [pointer, ctypes.c_char_p, size, size, ctypes.c_uint32, pointer, pointer]),
        "get_ovector_pointer": (ctypes.POINTER(size), [pointer]),
        "get_ovector_count": (ctypes.c_uint32, [pointer]),
        "match_context_create": (pointer, [pointer]),
        "match_context_free": (None, [pointer]),
        "set_match_limit": (ctypes.c_int, [pointer, ctypes.c_uint32]),
        "set_heap_limit": (ctypes.c_int, [pointer, ctypes.c_uint32]),
        "set_offset_limit": (ctypes.c_int, [pointer, size]),
        "pattern_info": (ctypes.c_int, [pointer, ctypes.c_uint32, pointer]),
        "get_error_message": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p, size]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"pcre2_{name}_8")
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


@cache
def _compile_context() -> int:
    library = _library()
    context: int = library.compile_context_create(None)
    library.set_compile_extra_options(context, _BAD_ESCAPE_IS_LITERAL)
    return context


def _error(code: int) -> PatternError:
    text = ctypes.create_string_buffer(256)
    _library().get_error_message(code, text, len(text))
    return PatternError(text.value.decode("latin-1"), code)


class Pattern:
    """A compiled pattern."""

    _code: int | None = None

    def __init__(self, source: bytes) -> None:
        library = self._library = _library()
        code, offset = ctypes.c_int(), ctypes.c_size_t()
        source = _OLD_VERB.sub(b"(*UTF)", source)
        made = library.compile(source, len(source), _USE_OFFSET_LIMIT, code, offset, _compile_context())
        if not made:
            error = _error(code.value)
            raise PatternError(f"{error} at offset {offset.value}", code.value)
        self._code = made
        self._utf = bool(self._info(_INFO_OPTIONS, ctypes.c_uint32) & _UTF)
        self._names = self._read_names()

    def __del__(self) -> None:
        if self._code:
            self._library.code_free(self._code)

    def _info(self, what: int, kind: Any) -> Any:
        value = kind()
        self._library.pattern_info(self._code, what, ctypes.byref(value))
        return value.value

    def _read_names(self) -> tuple[tuple[int, bytes], ...]:
        count, size = self._info(_INFO_NAME_COUNT, ctypes.c_uint32), self._info(_INFO_NAME_SIZE, ctypes.c_uint32)
        if not count:
            return ()
        table = ctypes.string_at(self._info(_INFO_NAMES, ctypes.c_void_p), count * size)
        rows = [table[start : start + size] for start in range(0, len(table), size)]
        return tuple((int.from_bytes(row[:2], "big"), row[2:].partition(b"\0")[0]) for row in rows)

    def groups(self, subject: bytes, spans: list[tuple[int, int]]) -> Groups:
        """Return the groups of a match."""
        found: dict[int | bytes, bytes] = {n: subject[start:end] for n, (start, end) in enumerate(spans)}
        for number, name in self._names:
            if found.get(name, b"") == b"":  # (?J) or (?| may use a name twice
                found[name] = found[number]
        return found

    def matches(self, subject: bytes, budget: Budget) -> Iterator[list[tuple[int, int]]]:
        """Yield the spans of each match and its groups, from left to right.

        :raises PatternError: if the budget or the memory for it is used up.
        """
        search = _Search(self._library, self._code, subject, budget, utf=self._utf)
        try:
            start, options = 0, 0
            while start <= len(subject) and search.find(start, options):
                spans = search.spans()
                yield spans
                # \K in a look-ahead may put the end before the beginning: a search always advances.
                start = max(start, spans[0][1])
                options = _NOT_EMPTY_AT_START if spans[0][0] >= spans[0][1] else 0
        finally:
            search.close()


class _Search:
    """The memory and the limits of a search in one subject."""

    def __init__(self, library: Any, code: int | None, subject: bytes, budget: Budget, *, utf: bool) -> None:
        self._library, self._code, self._subject, self._utf = library, code, subject, utf
        self._budget = budget
        self._deadline = thread_time() + budget.seconds
        self._data = library.match_data_create_from_pattern(code, None)
        self._context = library.match_context_create(None)
        library.set_heap_limit(self._context, _HEAP_KIB)

    def close(self) -> None:
        """Free the memory."""
        self._library.match_context_free(self._context)
        self._library.match_data_free(self._data)

    def spans(self) -> list[tuple[int, int]]:
        """Return the spans of the latest match and its groups; (0, 0) for a group without a match."""
        count, ends = self._library.get_ovector_count(self._data), self._library.get_ovector_pointer(self._data)
        spans = [(ends[2 * n], ends[2 * n + 1]) for n in range(count)]
        return [(0, 0) if span[0] == _UNSET else span for span in spans]

    def find(self, start: int, options: int) -> bool:
        """Search from ``start`` on, in pieces that grow."""
        size = _FIRST_PIECE
        self._library.set_match_limit(self._context, _FEW_STEPS)
        while start <= len(self._subject):
            end = start + size
            code = self._run(start, end, options)
            if code == _MATCH_LIMIT:  # one of these positions needs more steps: each alone
                if self._find_one_by_one(start, min(end, len(self._subject) + 1), options):
                    return True
                self._library.set_match_limit(self._context, _FEW_STEPS)
            elif code >= 0:
                return True
            start, options = self._boundary(end), 0
            size = min(2 * size, _LAST_PIECE)
        return False

    def _find_one_by_one(self, start: int, end: int, options: int) -> bool:
        self._library.set_match_limit(self._context, self._budget.steps)
        while start < end:
            code = self._run(start, start + 1, options)
            if code == _MATCH_LIMIT:
                raise _error(code)
            if code >= 0:
                return True
            start, options = self._boundary(start + 1), 0
        return False

    def _run(self, start: int, end: int, options: int) -> int:
        """Search for a match that begins before ``end``; return PCRE2's code."""
        library, subject = self._library, self._subject
        if thread_time() > self._deadline:
            raise PatternError("time limit exceeded", _MATCH_LIMIT)
        library.set_offset_limit(self._context, end - 1 if end <= len(subject) else _UNLIMITED)
        code: int = library.match(self._code, subject, len(subject), start, options, self._data, self._context)
        if code < 0 and code not in {_NO_MATCH, _MATCH_LIMIT}:
            raise _error(code)
        return code

    def _boundary(self, start: int) -> int:
        """Return the next position at or after ``start`` at which a character begins."""
        if self._utf:
            while start < len(self._subject) and self._subject[start] & 0xC0 == 0x80:
                start += 1
        return start


@lru_cache(maxsize=256)
def compile_pattern(source: bytes) -> Pattern:
    """Return a compiled pattern, from the cache if it is there.

    :raises PatternError: if it is malformed or too long, or if PCRE2 is missing.
    """
    if len(source) > _MAX_PATTERN:
        raise PatternError(f"the pattern is longer than {_MAX_PATTERN} octets", 0)
    return Pattern(source)


def match(subject: bytes, pattern: bytes, budget: Budget = SMALL) -> Groups | None:
    """Return the groups of the first match, or None.

    :raises PatternError: if the pattern is malformed or exceeds a limit.
    """
    compiled = compile_pattern(pattern)
    for spans in compiled.matches(subject, budget):
        return compiled.groups(subject, spans)
    return None


def replace(subject: bytes, pattern: bytes, new: bytes, budget: Budget = SMALL) -> bytes:
    """Return ``subject`` with ``new`` in the place of each match; ``$1`` and ``${name}`` are its groups.

    :raises PatternError: if the pattern is malformed or exceeds a limit, or if the result is too long.
    """
    compiled = compile_pattern(pattern)
    parts, done, size = [], 0, len(subject)
    for spans in compiled.matches(subject, budget):
        start, end = spans[0]
        if start < done or end < start:  # \K in a look-around
            continue
        text = _expand(new, compiled.groups(subject, spans))
        parts += [subject[done:start], text]
        done, size = end, size + len(text)
        if size > MAX_RESULT:
            raise PatternError("the result is too long", 0)
    return b"".join([*parts, subject[done:]])


def split(subject: bytes, pattern: bytes, budget: Budget = SMALL) -> list[bytes]:
    """Return the parts of ``subject`` between the matches; an empty subject has none.

    :raises PatternError: if the pattern is malformed or exceeds a limit.
    """
    if not subject:
        return []
    parts, done = [], 0
    for spans in compile_pattern(pattern).matches(subject, budget):
        start, end = spans[0]
        if end <= start and start in {0, len(subject)}:
            continue
        if start >= done:
            parts.append(subject[done:start])
            done = max(end, start)
            if len(parts) > _MAX_PARTS:
                raise PatternError("the result is too long", 0)
    return [*parts, subject[done:]]


def _expand(new: bytes, groups: Groups) -> bytes:
    def value(reference: "re.Match[bytes]") -> bytes:
        number, name, dollar, other = reference.groups()
        if dollar:
            return b"$"
        key = int(name) if name and name.isdigit() else name or int(number or other)
        return groups.get(key, b"")

    return _REFERENCE.sub(value, new)
