"""The tokens of Momentum's Lua: Lua 5.1 and what the threaded variant of Message Systems adds to it.

No token is lost: the white space and comments before a token are its ``space``, so that the text can be written again
with the same lines.
"""

import re
from collections.abc import Iterator
from typing import Final

from attrs import define

from triosmtp.lua.host import ScriptError

__all__ = ["KEYWORDS", "LuaSyntaxError", "Token", "chunk_name", "tokens"]

KEYWORDS: Final = frozenset({
    b"and", b"break", b"do", b"else", b"elseif", b"end", b"false", b"for", b"function", b"if", b"in", b"local", b"nil",
    b"not", b"or", b"repeat", b"return", b"then", b"true", b"until", b"while",
})  # fmt: skip

_SPACE: Final = re.compile(rb"(?:[ \t\v\f\r\n]+|--(?!\[=*\[)[^\r\n]*)*")
_LONG: Final = re.compile(rb"(--)?\[(=*)\[")
_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(rb"\.?[0-9][0-9.]*(?:[Ee][+-]?)?[A-Za-z0-9_]*")
_SYMBOL: Final = re.compile(rb"\.\.\.|\.\.|==|>=|>>|<=|<<|~=|!=|\^\^|[-+*/%^#~!&|\\<>=(){}\[\];:,.]")
_QUOTED: Final = re.compile(rb"[^\\\r\n\"']+|\\(?:\r\n|\n\r|[\s\S])|[\"']")
_ESCAPE: Final = re.compile(rb"\\(x[0-9A-Fa-f]{0,2}|u[0-9A-Fa-f]{0,8}|[0-9]{1,3}|\r\n|\n\r|[\s\S])")
_DECIMAL: Final = re.compile(rb"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]+)?").fullmatch
_INTEGER: Final = re.compile(rb"0(?:[xX][0-9A-Fa-f]+|[0-7]*)").fullmatch
_MAX_INTEGER: Final = (1 << 63) - 1  # strtol stops there
_PLAIN_ESCAPES: Final = b"abfnrtv\\\"'\r\n"
_NEWLINE: Final = re.compile(rb"\r\n|\n\r|\r|\n")


class LuaSyntaxError(ScriptError):
    """An error in the source of a script: ``FILE:LINE: text``, as Lua writes it."""


@define(slots=True, eq=False)
class Token:
    """One token; ``kind`` is ``name``, ``number``, ``string``, ``end of text``, or a keyword or symbol itself."""

    kind: bytes
    text: bytes
    space: bytes
    line: int
    before: bytes = b""
    """Text that the translation puts before the token."""
    after: bytes = b""
    """Text that the translation puts behind it."""


def chunk_name(chunk: bytes) -> str:
    """Return the name of a chunk as errors have it: ``@FILE`` and ``=NAME`` say it, other text is quoted."""
    if chunk[:1] in (b"@", b"="):
        return chunk[1:].decode("utf-8", "replace")
    first = _NEWLINE.split(chunk, maxsplit=1)[0]
    dots = "..." if len(first) > 60 or first != chunk else ""
    return f'[string "{first[:60].decode("utf-8", "replace")}{dots}"]'


def tokens(text: bytes, chunk: bytes) -> Iterator[Token]:
    """Yield the tokens of ``text`` as Lua 5.1 writes their values: numbers are decimal, escapes are those of Lua 5.1.

    :raises LuaSyntaxError: at a token that is none.
    """
    at, line, size = 0, 1, len(text)
    while True:
        start = at
        while ((match := _SPACE.match(text, at)) and match.end() > at) or (at < size and text.startswith(b"--", at)):
            at = match.end() if match is not None and match.end() > at else at
            long = _LONG.match(text, at)
            if long is not None and long[1]:
                at = _end_of_long(
                    text, long, _error(chunk, line + _lines(text[start:at]), "unfinished long comment", b"<eof>")
                )
        space = text[start:at]
        line += _lines(space)
        if at == size:
            yield Token(b"end of text", b"", space, line)
            return
        kind, written, end = _token(text, at, chunk, line)
        yield Token(kind, written, space, line)
        line += _lines(text[at:end])
        at = end


def _lines(text: bytes) -> int:
    return len(_NEWLINE.findall(text)) if b"\n" in text or b"\r" in text else 0


def _error(chunk: bytes, line: int, message: str, near: bytes) -> LuaSyntaxError:
    return LuaSyntaxError(f"{chunk_name(chunk)}:{line}: {message} near '{near[:60].decode('utf-8', 'replace')}'")


def _token(text: bytes, at: int, chunk: bytes, line: int) -> tuple[bytes, bytes, int]:
    """Return the kind of the token at ``at``, its text in Lua 5.1, and where it ends."""
    if match := _NAME.match(text, at):
        name = match[0]
        return name if name in KEYWORDS else b"name", name, match.end()
    if match := _NUMBER.match(text, at):
        number = _number(match[0])
        if number is None:
            raise _error(chunk, line, "malformed number", match[0])
        return b"number", number, match.end()
    if text[at] in b"\"'":
        end = _end_of_string(text, at, chunk, line)
        return b"string", _string(text[at:end], chunk, line), end
    if match := _LONG.match(text, at):
        end = _end_of_long(text, match, _error(chunk, line, "unfinished long string", b"<eof>"))
        return b"string", text[at:end], end
    if match := _SYMBOL.match(text, at):
        return match[0], match[0], match.end()
    raise _error(chunk, line, "unexpected symbol", text[at : at + 1])


def _end_of_long(text: bytes, opening: re.Match[bytes], error: LuaSyntaxError) -> int:
    closing = b"]" + opening[2] + b"]"
    end = text.find(closing, opening.end())
    if end < 0:
        raise error
    return end + len(closing)


def _end_of_string(text: bytes, start: int, chunk: bytes, line: int) -> int:
    quote, at = text[start : start + 1], start + 1
    while match := _QUOTED.match(text, at):
        at = match.end()
        if match[0] == quote:
            return at
    near = b"<eof>" if at == len(text) else text[start:at]
    raise _error(chunk, line, "unfinished string", near)


def _number(text: bytes) -> bytes | None:
    """Return a number in decimal; None if it is malformed.  As strtol() does, a leading 0 makes it octal."""
    if text[:1] == b"0" and text[1:2] != b".":
        if not _INTEGER(text):
            return None
        value = int(text, 16) if text[1:2] in (b"x", b"X") else int(text, 8)
        return b"%d" % min(value, _MAX_INTEGER)
    return text if _DECIMAL(text) else None


def _string(text: bytes, chunk: bytes, line: int) -> bytes:
    if b"\\" not in text:
        return text

    def written(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape[:1] == b"x":
            if len(escape) != 3:
                raise _error(chunk, line, "expected hex digit", text[: match.end()])
            return b"\\%03d" % int(escape[1:], 16)
        if escape[:1] == b"u":
            if len(escape) not in (5, 7, 9):
                message = "expected either 4, 6 or 8 hex digits for unicode escape"
                raise _error(chunk, line, message, text[: match.end()])
            return _utf8(int(escape[1:], 16), chunk, line)
        if escape.isdigit():
            if int(escape) > 255:
                raise _error(chunk, line, "escape sequence too large", text[: match.end()])
            return b"\\%03d" % int(escape)
        return match[0] if escape[:1] in _PLAIN_ESCAPES else escape

    return _ESCAPE.sub(written, text)


def _utf8(code: int, chunk: bytes, line: int) -> bytes:
    """Return the escapes of a code point in UTF-8, in up to six octets (RFC 2279), as Momentum writes it."""
    if code > 0x7FFFFFFF:
        raise _error(chunk, line, "unicode escape sequence too large", b"%x" % code)
    if code < 0x80:
        return b"\\%03d" % code
    size = next(n for n, bits in ((2, 11), (3, 16), (4, 21), (5, 26), (6, 31)) if code < 1 << bits)
    lead = (0xFF00 >> size) & 0xFF | code >> 6 * (size - 1)
    octets = [lead, *(0x80 | code >> 6 * k & 0x3F for k in range(size - 2, -1, -1))]
    return b"".join(b"\\%03d" % octet for octet in octets)
