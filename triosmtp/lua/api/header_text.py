"""Encoded words of header fields (RFC 2047): decoded to UTF-8 for scripts, and encoded when scripts set a field."""

import binascii
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

__all__ = ["decode_text", "decode_value", "encode_value", "unfold"]

_WORD: Final = re.compile(rb"=\?([^?\s]{1,64})\?([BbQq])\?([^?\s]*)\?=")
_LINE_END: Final = re.compile(rb"\r?\n(?=[ \t])")
_QUOTED: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+|"|\s+', re.DOTALL)
_UNSAFE_CODECS: Final = (
    "idna",
    "punycode",
    "unicode",
    "raw_unicode",
    "undefined",
    "mbcs",
    "oem",
)  # slow, or no charset
_PIECE: Final = 42  # octets in one encoded word: 75 characters in all


def unfold(value: bytes) -> bytes:
    """Return the value of a field without its line ends (RFC 5322, section 2.2.3)."""
    return _LINE_END.sub(b"", value).strip(b" \t\r\n")


def decode_text(data: bytes, charset: str) -> str:
    """Decode octets of a peer.  An unknown charset is read as UTF-8, and octets that do not fit become U+FFFD."""
    name = charset.strip("\"' ").partition("*")[0].lower().replace("-", "_")
    if name and not name.startswith(_UNSAFE_CODECS):
        try:
            # UTF-7 and others can make half of a surrogate pair, which no later text may have.
            return data.decode(name, "replace").encode("utf-8", "replace").decode("utf-8")
        except (LookupError, ValueError):
            pass
    return data.decode("utf-8", "replace")


def decode_value(value: bytes) -> bytes:
    """Return the value of a field with its encoded words decoded, in UTF-8.

    Adjacent words of one charset are joined before they are decoded: mail programs divide characters.
    """
    if b"=?" not in value:
        return value
    return b"".join(_decoded(value))


def _decoded(value: bytes) -> Iterator[bytes]:
    done, charset, held = 0, b"", b""
    for found in _WORD.finditer(value):
        between = value[done : found.start()]
        joins = bool(charset) and not between.strip(b" \t\r\n")
        if held and not (joins and found[1].lower() == charset):
            yield decode_text(held, charset.decode("latin-1")).encode("utf-8")
            held = b""
        if not joins:
            yield between
        held += _word_octets(found[2], found[3])
        done, charset = found.end(), found[1].lower()
    if held:
        yield decode_text(held, charset.decode("latin-1")).encode("utf-8")
    yield value[done:]


def _word_octets(kind: bytes, text: bytes) -> bytes:
    if kind in b"Bb":
        try:
            return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
        except binascii.Error:
            return text
    return _QUOTED.sub(lambda found: bytes.fromhex(found[1].decode()), text.replace(b"_", b" "))


def encode_value(value: bytes) -> bytes:
    """Return the value for a field: words that are not ASCII as encoded words, one a line.

    Other words stay, so that the addresses of a field such as From keep their form.
    """
    if value.isascii():
        return value
    parts: list[str] = []
    run: list[str] = []  # adjacent words to be encoded, and the blanks between them
    for token in _TOKEN.findall(value.decode("utf-8", "replace")):
        if token.isascii() and not (run and token.isspace()):
            parts += _flushed(run)
            parts.append(token)
        else:
            run.append(token[1:-1] if len(token) > 1 and token[0] == token[-1] == '"' else token)
    parts += _flushed(run)
    return "".join(parts).encode("ascii")


def _flushed(run: list[str]) -> list[str]:
    blanks = run.pop() if run and run[-1].isspace() else ""
    text, parts, piece = "".join(run), [], ""
    run.clear()
    for character in text:
        if len((piece + character).encode()) > _PIECE:
            parts.append(piece)
            piece = ""
        piece += character
    if piece:
        parts.append(piece)
    return ["\r\n ".join(f"=?UTF-8?B?{b64encode(each.encode()).decode()}?=" for each in parts), blanks]
