"""``msg:raw``, ``msg:body``, ``msg:text``, ``msg:mime`` and the matches: reading the content of a message.

A message may be larger than what a script should hold, so these functions see its first :data:`MAX_CONTENT` octets.
"""

from typing import Any, Final

import trio

from triosmtp.lua.api import pcre
from triosmtp.lua.api.access import Callout, message_of
from triosmtp.lua.api.header_functions import fields_of, header_of
from triosmtp.lua.api.mime_part import MimePart, read_parts, text_parts
from triosmtp.lua.api.pcre import LARGE, Groups, PatternError
from triosmtp.lua.host import HostObject, HostTable, ScriptError
from triosmtp.message.spool import SpoolError

__all__ = ["MAX_CONTENT", "TABLE"]

TABLE = HostTable()

MAX_CONTENT: Final = 1024 * 1024
"""Octets of a message that scripts can read."""
_LIMITER = trio.CapacityLimiter(4)
_SMALL: Final = 64 * 1024  # octets that are worked on without a thread


async def _header_and_body(callout: Callout) -> tuple[bytes, bytes]:
    """Return the header with the changes of the scripts, and the beginning of the body."""
    body = message_of(callout).body
    header = await header_of(body)
    raw = [each.raw if each.raw.endswith(b"\n") else each.raw + b"\r\n" for each in await fields_of(callout)]
    try:
        rest = await body.part(header.body_start, MAX_CONTENT)
    except SpoolError as error:
        raise ScriptError(str(error)) from None
    return b"".join(raw) + (header.empty_line or (b"\r\n" if rest else b"")), rest


async def _content(callout: Callout) -> bytes:
    head, rest = await _header_and_body(callout)
    return (head + rest)[:MAX_CONTENT]


async def _worked(function: Any, data: bytes) -> Any:
    """Call a function of a message; in a thread if that is large."""
    if len(data) <= _SMALL:
        return function(data)
    return await trio.to_thread.run_sync(function, data, limiter=_LIMITER)


@TABLE.function("msg:get_message_size", "", state="should")
def _size(callout: Callout, _msg: HostObject) -> int:
    return message_of(callout).size


@TABLE.function("msg:raw", "a", state="should", waits=True)
async def _raw(callout: Callout, _msg: HostObject, new: Any) -> bytes:
    _refuse_change(new, "raw")
    return await _content(callout)


@TABLE.function("msg:body", "a", state="should", waits=True)
async def _body(callout: Callout, _msg: HostObject, new: Any) -> bytes:
    _refuse_change(new, "body")
    return (await _header_and_body(callout))[1]


@TABLE.function("msg:text", "a", state="should", waits=True)
async def _text(callout: Callout, _msg: HostObject, new: Any) -> Any:
    _refuse_change(new, "text")
    texts = await _worked(text_parts, await _content(callout))
    return texts if len(texts) > 1 else texts[0] if texts else ""


def _refuse_change(new: Any, name: str) -> None:
    if new is not None:
        raise ScriptError(f"triosmtp does not have msg:{name}(new): scripts do not rewrite content")


# Matches


async def _matched(data: bytes, pattern: bytes) -> Groups | bool:
    try:
        found = await trio.to_thread.run_sync(lambda: pcre.match(data, pattern, LARGE), limiter=_LIMITER)
    except PatternError as error:
        raise ScriptError(f"the pattern cannot be matched: {error}") from None
    return False if found is None else found


@TABLE.function("msg:raw_match", "s", state="should", waits=True)
async def _raw_match(callout: Callout, _msg: HostObject, pattern: bytes) -> Groups | bool:
    return await _matched(await _content(callout), pattern)


@TABLE.function("msg:body_match", "s", state="should", waits=True)
async def _body_match(callout: Callout, _msg: HostObject, pattern: bytes) -> Groups | bool:
    return await _matched((await _header_and_body(callout))[1], pattern)


@TABLE.function("msg:text_match", "s", state="should", waits=True)
async def _text_match(callout: Callout, _msg: HostObject, pattern: bytes) -> Groups | bool:
    for each in await _worked(text_parts, await _content(callout)):
        found = await _matched(each.encode("utf-8"), pattern)
        if found:
            return found
    return False


# MIME


class Part(HostObject):
    """One part of a message, and those behind it."""

    lua_class = "mime_part"

    def __init__(self, parts: list[MimePart], index: int) -> None:
        self.part, self._parts, self._index = parts[index], parts, index

    @property
    def next(self) -> "Part | None":
        """The next part, or None."""
        return Part(self._parts, self._index + 1) if self._index + 1 < len(self._parts) else None


@TABLE.function("msg:mime", "a", state="should", waits=True)
async def _mime(callout: Callout, _msg: HostObject, reading: Any) -> Part:
    if reading is not True:
        raise ScriptError("triosmtp has msg:mime(true) only: scripts do not rewrite content")
    return Part(await _worked(read_parts, await _content(callout)), 0)


@TABLE.getter("mime_part.thread", state="should")
def _thread(_callout: Callout, part: Part) -> Part | None:
    return part.next


@TABLE.function("mime_part:header", "s", state="should")
def _part_header(_callout: Callout, part: Part, name: bytes) -> list[bytes]:
    return part.part.header(name)


@TABLE.function("mime_part:content_type", "", state="should")
def _content_type(_callout: Callout, part: Part) -> tuple[str, str, str, bool, str]:
    kind = part.part.content_type()
    return kind.mimetype, kind.charset, kind.encoding, kind.is_attachment, kind.filename
