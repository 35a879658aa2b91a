"""A strict reader of DER, and a writer: it reads what has one reading, and refuses everything else.

OpenSSL reads BER: tags in the high-tag-number form, lengths without end or with leading zeros, strings in pieces.  A
second reader that takes any of these may see other fields than the one that did the handshake.  So this one takes
one-octet tags and shortest definite lengths alone (X.690, sections 8.1.2 and 10.1): what it accepts, every correct
reader of BER divides in the same way.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "BOOLEAN", "INTEGER", "OBJECT_IDENTIFIER", "OCTET_STRING", "SEQUENCE", "SET", "Element", "element", "elements",
    "sole_content",
]  # fmt: skip

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31

_HIGH_TAG_NUMBER: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MAX_LENGTH_OCTETS: Final = 4


class Element(NamedTuple):
    """One element: its tag octet, its content, and all of it as it was encoded."""

    tag: int
    content: bytes
    encoded: bytes

    def require(self, tag: int) -> bytes:
        """Return the content.

        :raises ValueError: if the tag is another one.
        """
        if self.tag != tag:
            raise ValueError(f"tag {self.tag:#04x} where {tag:#04x} was expected")
        return self.content


def elements(data: bytes) -> Iterator[Element]:
    """Return the elements that ``data`` consists of, one after the other.

    :raises ValueError: if there is anything that is not strict DER.
    """
    at, size = 0, len(data)
    while at < size:
        start, end = _content(data, at)
        yield Element(data[at], data[start:end], data[at:end])
        at = end


def sole_content(data: bytes, tag: int = SEQUENCE) -> bytes:
    """Return the content of the one element that ``data`` is.

    :raises ValueError: if it is not strict DER, has another tag, or is followed by something.
    """
    (element,) = elements(data)
    return element.require(tag)


def element(tag: int, *content: bytes) -> bytes:
    """Encode an element."""
    data = b"".join(content)
    size = len(data)
    if size < _LONG_LENGTH:
        return bytes([tag, size]) + data
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _LONG_LENGTH | len(octets)]) + octets + data


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Return the beginning and the end of the content of the element at ``at``."""
    if at + 2 > len(data):
        raise ValueError("cut off")
    if data[at] & _HIGH_TAG_NUMBER == _HIGH_TAG_NUMBER:
        raise ValueError("a tag in the high-tag-number form")
    size, start = data[at + 1], at + 2
    if size & _LONG_LENGTH:
        octets = size & 0x7F
        if not 1 <= octets <= _MAX_LENGTH_OCTETS or start + octets > len(data):
            raise ValueError("not a definite length")
        size, start = int.from_bytes(data[start : start + octets], "big"), start + octets
        if size < _LONG_LENGTH or size >> 8 * (octets - 1) == 0:
            raise ValueError("not the shortest form of a length")
    if start + size > len(data):
        raise ValueError("cut off")
    return start, start + size
