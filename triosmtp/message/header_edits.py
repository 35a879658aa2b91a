"""Changes of a message: fields that are inserted, changed or deleted, and a new body.

A filter collects the changes in :class:`HeaderEdits`, and :meth:`HeaderEdits.apply` makes another
:class:`~triosmtp.message.spool.Body` of them.  Each change holds for the header as the changes before it left it.  The
octets of fields that are not changed stay as they are, and no text can leave the field that it is put into.

A header is what Postfix takes for one: fields up to an empty line, or up to the first line that is no field.  If it
ends without an empty line, the changed message has one there.
"""

import io
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import trio
from attrs import Factory, define, field, frozen

from triosmtp.message.spool import Body, derive, spool_limiter

__all__ = [
    "MAX_EDITED", "MAX_EDITS", "MAX_FIELDS", "MAX_HEADER", "EditError", "Header", "HeaderEdits", "HeaderField",
    "make_field", "read_header",
]  # fmt: skip

MAX_HEADER: Final = 1024 * 1024
"""Octets of a header that can be edited."""
MAX_FIELDS: Final = 10_000
"""Fields of a header that can be edited."""
MAX_EDITS: Final = 256
"""Changes of one message."""
MAX_EDITED: Final = 256 * 1024
"""Octets of all fields that the changes of one message insert."""

_INLINE: Final = 32 * 1024  # octets of a body in memory that are edited without a thread
_PIECE: Final = 256 * 1024
_LONGEST_LINE: Final = 998  # octets without CRLF (RFC 5322, section 2.1.1)

_LONGEST_NAME: Final = 1000  # octets in which a name and its colon, or an empty line, can be seen
_FIELD: Final = re.compile(rb"([!-9;-~]{1,998})[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)").match
_EMPTY_LINE: Final = re.compile(rb"\r?\n").match
_FROM_LINE: Final = re.compile(rb">?From [^\n]*\n").match  # of a mailbox, in front of the first field
_NAME: Final = re.compile(rb"[!-9;-~]{1,76}").fullmatch  # RFC 5322, section 3.6.8
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class EditError(ValueError):
    """A change that cannot be made; the text says why."""


@frozen(slots=True)
class HeaderField:
    """One field of a header."""

    name: bytes
    """As it is written."""
    raw: bytes
    """The whole field with its line ends."""

    @property
    def value(self) -> bytes:
        """The octets behind the colon, with the first space and the line ends within, without the last line end."""
        return self.raw.partition(b":")[2].removesuffix(b"\n").removesuffix(b"\r")

    def is_named(self, lower_name: bytes) -> bool:
        """Return whether the field has this name, which is in lower case."""
        return len(self.name) == len(lower_name) and self.name.lower() == lower_name


@frozen(slots=True)
class Header:
    """The header of a message."""

    fields: tuple[HeaderField, ...]
    from_line: bytes = b""
    """The line ``From …`` of a mailbox that stands before the first field, or ``b""``."""
    empty_line: bytes = b""
    """The line that ends the header; ``b""`` if there is none."""
    body_start: int = 0
    """The offset of the body in the message."""


def make_field(name: bytes | str, value: bytes | str, *, space: bool = True) -> bytes:
    """Return a header field with its CRLF.

    A value may be folded: a line end in it must be followed by a space or a tab, and becomes CRLF.  A line of more
    than 998 octets is folded.  Control characters become ``?``.  ``space`` puts a space behind the colon if the value
    does not begin with one.

    :raises EditError: if ``name`` is no name of a field, or ``value`` would leave the field.
    """
    name_octets = name.encode("utf-8", "replace") if isinstance(name, str) else name
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if not _NAME(name_octets):
        raise EditError(f"{name!r} is not the name of a header field")
    first, *others = _LINE_END.split(octets.rstrip(b" \t\r\n"))
    if any(line[:1] not in {b" ", b"\t"} for line in others if line):
        raise EditError(f"a line end in the value of {name!r} that no space follows")
    start = name_octets + (b": " if space and first[:1] not in {b" ", b"\t"} else b":")
    lines = [start + first, *(line for line in others if line.strip())]  # a blank line would end the header for some
    return b"\r\n".join(each for line in lines for each in _folded(_CONTROL.sub(b"?", line))) + b"\r\n"


def _folded(line: bytes) -> Iterator[bytes]:
    """Yield a line in parts of at most 998 octets, each but the first behind a space."""
    while len(line) > _LONGEST_LINE:
        end = max(line.rfind(b" ", 1, _LONGEST_LINE), line.rfind(b"\t", 1, _LONGEST_LINE))
        if end < 0 or not line[:end].strip():
            end = _LONGEST_LINE
            while end > _LONGEST_LINE - 4 and line[end] & 0xC0 == 0x80:  # not within a character of UTF-8
                end -= 1
            line = line[:end] + b" " + line[end:]
        yield line[:end]
        line = line[end:]
    yield line


def parse_header(data: bytes, *, complete: bool) -> Header:
    """Return the header of the message that begins with ``data``; ``complete`` is whether that is all of it.

    :raises EditError: if the header has more than MAX_FIELDS fields, or does not end in ``data``.
    """
    fields: list[HeaderField] = []
    start = _FROM_LINE(data)
    from_line = b"" if start is None else start[0]
    at = len(from_line)
    while (match := _FIELD(data, at)) is not None:
        if len(fields) >= MAX_FIELDS:
            raise EditError(f"the header has more than {MAX_FIELDS} fields")
        fields.append(HeaderField(match[1], match[0]))
        at = match.end()
    empty = _EMPTY_LINE(data, at)
    if empty is None and not complete and len(data) - at < _LONGEST_NAME:  # a field, or the end, may be cut off
        raise EditError(f"the header is longer than {MAX_HEADER} octets")
    if not fields:
        from_line, at = b"", 0
        empty = _EMPTY_LINE(data)
    empty_line = b"" if empty is None else empty[0]
    return Header(tuple(fields), from_line, empty_line, at + len(empty_line))


async def read_header(body: Body) -> Header:
    """Return the header of a message.

    :raises EditError: if it is longer than MAX_HEADER, or has more than MAX_FIELDS fields.
    :raises SpoolError: if the file of the message cannot be read.
    """
    if body.size <= _INLINE:
        return parse_header(body.head, complete=True)
    data = await body.part(0, MAX_HEADER)
    return await trio.to_thread.run_sync(
        partial(parse_header, data, complete=len(data) == body.size), limiter=spool_limiter()
    )


@frozen(slots=True)
class _Insert:
    index: int | None  # None is behind the last field
    name: bytes
    raw: bytes

    def apply(self, fields: list[HeaderField]) -> None:
        fields.insert(len(fields) if self.index is None else self.index, HeaderField(self.name, self.raw))


@frozen(slots=True)
class _Change:
    occurrence: int
    name: bytes
    raw: bytes

    def apply(self, fields: list[HeaderField]) -> None:
        changed = HeaderField(self.name, self.raw)
        at = _find(fields, self.name.lower(), self.occurrence)
        if at is not None:
            fields[at] = changed
        elif self.occurrence > 0:
            fields.append(changed)


@frozen(slots=True)
class _Delete:
    occurrence: int | None  # None is all of them
    name: bytes  # in lower case

    def apply(self, fields: list[HeaderField]) -> None:
        if self.occurrence is None:
            fields[:] = [each for each in fields if not each.is_named(self.name)]
        elif (at := _find(fields, self.name, self.occurrence)) is not None:
            del fields[at]


def _find(fields: list[HeaderField], lower_name: bytes, occurrence: int) -> int | None:
    """Return the index of a field; ``occurrence`` counts from 1, or from -1 backwards from the end."""
    found = [index for index, each in enumerate(fields) if each.is_named(lower_name)]
    at = occurrence - 1 if occurrence > 0 else occurrence + len(found)
    return found[at] if 0 <= at < len(found) else None


_Edit: TypeAlias = _Insert | _Change | _Delete


@define(slots=True)
class HeaderEdits:
    """Changes of one message, in the order in which they are made.

    Two that are equal make the same octets of the same message.  One without changes is false.
    """

    operations: list[_Edit] = Factory(list)
    new_body: Body | None = field(default=None, eq=lambda body: None if body is None else id(body))
    _octets: int = field(default=0, eq=False)

    def __bool__(self) -> bool:
        return bool(self.operations) or self.new_body is not None

    def prepend(self, name: bytes | str, value: bytes | str, *, space: bool = True) -> None:
        """Insert a field before the first one; the arguments are those of :func:`make_field`.

        :raises EditError: if the field is malformed, or there are too many changes.
        """
        self.insert(0, name, value, space=space)

    def append(self, name: bytes | str, value: bytes | str, *, space: bool = True) -> None:
        """Insert a field behind the last one; the arguments and errors are those of :meth:`prepend`."""
        self._add(_Insert(None, *_named(name, value, space=space)))

    def insert(self, index: int, name: bytes | str, value: bytes | str, *, space: bool = True) -> None:
        """Insert a field that will have ``index`` fields before it, or behind the last one if there are fewer.

        The other arguments and the errors are those of :meth:`prepend`.

        :raises ValueError: if ``index`` is negative.
        """
        if index < 0:
            raise EditError(f"{index} is not an index")
        self._add(_Insert(index, *_named(name, value, space=space)))

    def change(self, name: bytes | str, occurrence: int, value: bytes | str, *, space: bool = True) -> None:
        """Put a field in the place of the n-th field of this name; -1 is the last one of them.

        If there are fewer, and ``occurrence`` is positive, the field is appended.  The errors are those of
        :meth:`prepend`.

        :raises ValueError: if ``occurrence`` is 0.
        """
        self._add(_Change(_checked(occurrence), *_named(name, value, space=space)))

    def delete(self, name: bytes | str, occurrence: int | None = None) -> None:
        """Delete the n-th field of this name, -1 is the last one; without ``occurrence``, all of them.

        :raises EditError: if there are too many changes.
        :raises ValueError: if ``occurrence`` is 0.
        """
        octets = name.encode("utf-8", "replace") if isinstance(name, str) else name
        self._add(_Delete(None if occurrence is None else _checked(occurrence), octets.lower()))

    def replace_body(self, body: Body) -> None:
        """Put all octets of ``body`` in the place of what follows the header.  The caller closes it."""
        self.new_body = body

    def extend(self, later: "HeaderEdits") -> None:
        """Add the changes of ``later`` behind these.

        :raises EditError: if there are too many changes.
        """
        for edit in later.operations:
            self._add(edit)
        self.new_body = later.new_body or self.new_body

    def edited(self, fields: Iterable[HeaderField]) -> list[HeaderField]:
        """Return ``fields`` with the changes."""
        found = list(fields)
        for edit in self.operations:
            edit.apply(found)
        return found

    async def apply(self, body: Body, folder: Path | None = None, min_free: int = 0) -> Body:
        """Return a message with the changes.  The caller closes it, and closes ``body``, which stays as it is.

        It is in memory if ``body`` and the new body are, else in a file of the spool folder ``folder``, on whose file
        system ``min_free`` octets are left free.

        :raises EditError: if the header cannot be edited (see :func:`read_header`).
        :raises SpoolError: if a file cannot be read or written.
        """
        if body.in_memory and body.size <= _INLINE and self.new_body is None:
            made = io.BytesIO()
            self._write(body.size, io.BytesIO(body.head), made)
            edited = Body(made.getvalue())
            edited.count()
            return edited
        on_disk = self.new_body is not None and not self.new_body.in_memory
        return await derive(body, partial(self._write, body.size), folder, min_free=min_free, on_disk=on_disk)

    def _write(self, size: int, source: BinaryIO, target: BinaryIO) -> None:
        """Copy a message of ``size`` octets with the changes.  It blocks."""
        data = source.read(MAX_HEADER)
        header = parse_header(data, complete=len(data) == size)
        fields = self.edited(header.fields)
        target.write(header.from_line if fields else b"")
        target.writelines(each.raw if each.raw.endswith(b"\n") else each.raw + b"\r\n" for each in fields)
        if self.new_body is not None:
            target.write(header.empty_line or b"\r\n")
            with self.new_body.open() as new:
                shutil.copyfileobj(new, target, _PIECE)
            return
        rest = data[header.body_start :]
        if header.empty_line or rest:
            target.write(header.empty_line or b"\r\n")
        target.write(rest)
        shutil.copyfileobj(source, target, _PIECE)

    def _add(self, edit: _Edit) -> None:
        octets = self._octets + len(edit.name) + (0 if isinstance(edit, _Delete) else len(edit.raw))
        if len(self.operations) >= MAX_EDITS or octets > MAX_EDITED:
            raise EditError(f"more than {MAX_EDITS} changes of a message, or more than {MAX_EDITED} octets in them")
        self.operations.append(edit)
        self._octets = octets


def _named(name: bytes | str, value: bytes | str, *, space: bool) -> tuple[bytes, bytes]:
    return name.encode("utf-8", "replace") if isinstance(name, str) else name, make_field(name, value, space=space)


def _checked(occurrence: int) -> int:
    if not occurrence:
        raise EditError("fields are counted from 1")
    return occurrence
