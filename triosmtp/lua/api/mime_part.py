"""The parts of a MIME message (RFC 2045, RFC 2046), for reading, within bounds."""

import binascii
import quopri
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from triosmtp.lua.api.header_text import decode_text, decode_value, unfold

__all__ = ["MAX_PARTS", "ContentType", "MimePart", "read_parts", "text_parts"]

MAX_PARTS: Final = 1000
_MAX_DEPTH: Final = 16
_MAX_VALUE: Final = 8 * 1024  # octets of a field with parameters
_FIELD: Final = re.compile(rb"([!-9;-~]{1,998})[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
_EMPTY: Final = re.compile(rb"\r?\n")
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]{1,100})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.DOTALL)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")


@frozen(slots=True)
class ContentType:
    """The result of ``part:content_type()``."""

    mimetype: str
    charset: str
    encoding: str
    """Of Content-Transfer-Encoding, in lower case."""
    is_attachment: bool
    filename: str
    boundary: str = ""


@frozen(slots=True)
class MimePart:
    """One part: its header fields, and its content as it was sent."""

    fields: tuple[tuple[bytes, bytes], ...]
    """Names in lower case, and values without line ends."""
    content: bytes = field(repr=False)

    def header(self, name: bytes) -> list[bytes]:
        """Return the values of the fields of a name, decoded."""
        return [decode_value(value) for each, value in self.fields if each == name.lower()]

    def content_type(self) -> ContentType:
        """Read Content-Type, Content-Transfer-Encoding and Content-Disposition."""
        mimetype, parameters = _read_parameters(self._first(b"content-type") or "text/plain")
        disposition, attached = _read_parameters(self._first(b"content-disposition"))
        return ContentType(
            mimetype=mimetype or "text/plain",
            charset=parameters.get("charset", "us-ascii"),
            encoding=self._first(b"content-transfer-encoding").strip().lower() or "7bit",
            is_attachment=disposition == "attachment",
            filename=attached.get("filename") or parameters.get("name", ""),
            boundary=parameters.get("boundary", ""),
        )

    def text(self) -> str:
        """Return the content, decoded."""
        kind = self.content_type()
        return decode_text(_transfer_decoded(self.content, kind.encoding), kind.charset)

    def _first(self, name: bytes) -> str:
        values = [value for each, value in self.fields if each == name]
        return values[0][:_MAX_VALUE].decode("utf-8", "replace") if values else ""


def read_parts(data: bytes) -> list[MimePart]:
    """Return the parts of a message in their order, the message itself first; at most :data:`MAX_PARTS`."""
    found: list[MimePart] = []
    pending = [(data, 0)]
    while pending and len(found) < MAX_PARTS:
        octets, depth = pending.pop()
        part = _read_part(octets)
        found.append(part)
        kind = part.content_type()
        if depth >= _MAX_DEPTH:
            continue
        if kind.mimetype.startswith("multipart/") and kind.boundary:
            pending += [(each, depth + 1) for each in reversed(_divided(part.content, kind.boundary.encode("utf-8")))]
        elif kind.mimetype == "message/rfc822" and kind.encoding in {"7bit", "8bit", "binary"}:
            pending.append((part.content, depth + 1))
    return found


def text_parts(data: bytes) -> list[str]:
    """Return the decoded text parts of a message that are not attachments."""
    found = []
    for part in read_parts(data):
        kind = part.content_type()
        if kind.mimetype.startswith("text/") and not kind.is_attachment:
            found.append(part.text())
    return found


def _read_part(data: bytes) -> MimePart:
    fields, at = [], 0
    while (match := _FIELD.match(data, at)) is not None:
        fields.append((match[1].lower(), unfold(match[2])))
        at = match.end()
    empty = _EMPTY.match(data, at)
    return MimePart(tuple(fields), data[at if empty is None else empty.end() :])


def _divided(content: bytes, boundary: bytes) -> list[bytes]:
    """Return what stands between the lines of a boundary."""
    line = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    parts: list[bytes] = []
    start = None
    for match in line.finditer(content):
        if start is not None:
            parts.append(content[start : match.start()])
        if match[1] or len(parts) >= MAX_PARTS:
            return parts
        end = _EMPTY.match(content, match.end())
        start = match.end() if end is None else end.end()
    return parts if start is None else [*parts, content[start:]]


def _transfer_decoded(content: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        cleaned = re.sub(rb"[^A-Za-z0-9+/]", b"", content)
        try:
            return binascii.a2b_base64(cleaned[: len(cleaned) - (len(cleaned) % 4 == 1)] + b"==")
        except binascii.Error:
            return content
    return quopri.decodestring(content) if encoding == "quoted-printable" else content


def _read_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Return the first word of a field, in lower case, and its parameters; those of RFC 2231 are joined."""
    sections: dict[str, list[tuple[int, bool, str]]] = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        match = _SECTION.fullmatch(name.lower())
        if match is not None:
            text = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            sections.setdefault(match[1], []).append((int(match[2] or 0), match[3] is not None, text))
    return value.partition(";")[0].strip().lower(), {name: _joined(found) for name, found in sections.items()}


def _joined(sections: list[tuple[int, bool, str]]) -> str:
    sections.sort(key=lambda each: each[0])
    if not sections[0][1]:
        text = "".join(each[2] for each in sections)
        return decode_value(text.encode("utf-8")).decode("utf-8", "replace") if "=?" in text else text
    charset, _, rest = sections[0][2].partition("'")
    octets = b"".join(
        unquote_to_bytes(text) if encoded else text.encode("utf-8")
        for encoded, text in _encoded(sections, rest.partition("'")[2])
    )
    return decode_text(octets, charset)


def _encoded(sections: list[tuple[int, bool, str]], first: str) -> Iterator[tuple[bool, str]]:
    yield True, first
    for _, encoded, text in sections[1:]:
        yield encoded, text
