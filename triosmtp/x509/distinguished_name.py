"""Distinguished names, as OpenSSL reads them, and escaped for display.

OpenSSL says which octets are the name, and what its attributes are called and hold.  No public call
tells the type of a string, or which attributes form one RDN.  That is read here, and used only if it leads to the same
values as OpenSSL's.  The form is that of ``openssl x509 -nameopt RFC2253,-esc_msb,utf8``.
"""

from typing import Final

from attrs import frozen
from OpenSSL import crypto

from triosmtp.x509.der import OBJECT_IDENTIFIER, SEQUENCE, SET, elements, sole_content

__all__ = ["CUT", "MAX_TEXT", "DistinguishedName", "dotted", "printable", "read_name"]

MAX_TEXT: Final = 256
"""Characters of one common name or alternative name, for display."""
CUT: Final = "…"
"""Ends what was cut off: no honest name ends so."""
_MAX_NAME: Final = 1024  # characters of a distinguished name
_MAX_ENCODED: Final = 8192  # octets of a name: more is not read
_MAX_ATTRIBUTES: Final = 64
_UNKNOWN: Final = "UNDEF"  # OpenSSL's short name for what it has no name for
_SPECIAL: Final = frozenset(',+"\\<>;')

_UTF8: Final = 12
_UNIVERSAL: Final = 28
_WIDE: Final = {_UNIVERSAL: "utf-32-be", 30: "utf-16-be"}  # the other one is BMPString
_NARROW: Final = frozenset({18, 19, 20, 22, 26})  # Numeric, Printable, Teletex, IA5, VisibleString: OpenSSL's Latin-1


@frozen(slots=True)
class _Attribute:
    label: str
    tag: int
    value: bytes
    encoded: bytes
    first: bool
    """Whether it begins a relative distinguished name."""

    def text(self) -> str:
        """Return the string.

        :raises ValueError: if it is none, or its octets do not fit its type.
        """
        if self.tag == _UTF8:
            return self.value.decode("utf-8")
        if self.tag in _NARROW:
            return self.value.decode("latin-1")
        if self.tag not in _WIDE:
            raise ValueError("not a string")
        text, octets = self.value.decode(_WIDE[self.tag]), 4 if self.tag == _UNIVERSAL else 2
        if len(text) * octets != len(self.value):
            raise ValueError("surrogates, which OpenSSL does not join")
        return text

    def shown(self) -> str:
        is_string = self.tag == _UTF8 or self.tag in _NARROW or self.tag in _WIDE
        if not is_string or self.label[:1].isdigit():
            return f"{self.label}=#{self.encoded.hex().upper()}"
        return f"{self.label}={_escaped(self.text())}"


@frozen(slots=True)
class DistinguishedName:
    """A name that was read."""

    attributes: tuple[_Attribute, ...]

    def text(self) -> str:
        """Return the name in the form of RFC 2253 and RFC 4514: the most specific part first.

        :raises ValueError: if a string in it cannot be decoded.
        """
        parts = []
        for attribute in reversed(self.attributes):
            parts += [attribute.shown(), "," if attribute.first else "+"]
        return printable("".join(parts[:-1]), _MAX_NAME)

    def values(self, label: str) -> tuple[str, ...]:
        """Return the values of all attributes that OpenSSL calls ``label``, as they are.

        :raises ValueError: if one cannot be decoded.
        """
        return tuple(attribute.text() for attribute in self.attributes if attribute.label == label)

    def common_name(self) -> str | None:
        """Return the last CN, the most specific one, as OpenSSL and Postfix do; None if there is none.

        :raises ValueError: if it cannot be decoded.
        """
        found = [attribute for attribute in self.attributes if attribute.label == "CN"]
        return printable(found[-1].text()) if found else None


def read_name(name: crypto.X509Name) -> DistinguishedName:
    """Read a name of OpenSSL's.

    :raises ValueError: if it is not strict DER, is too long, or is not what OpenSSL reads.
    """
    encoded = name.der()
    if len(encoded) > _MAX_ENCODED:
        raise ValueError("too long")
    found: list[_Attribute] = []
    components = name.get_components()
    if len(components) > _MAX_ATTRIBUTES:
        raise ValueError("too many attributes")
    for rdn in elements(sole_content(encoded)):
        for number, attribute in enumerate(elements(rdn.require(SET))):
            kind, value = elements(attribute.require(SEQUENCE))
            label = components[len(found)][0].decode("ascii") if len(found) < len(components) else ""
            if label == _UNKNOWN:
                label = dotted(kind.require(OBJECT_IDENTIFIER))
            found.append(_Attribute(label, value.tag, value.content, value.encoded, number == 0))
    if [attribute.value for attribute in found] != [value for _, value in components]:
        raise ValueError("OpenSSL reads it otherwise")
    return DistinguishedName(tuple(found))


def dotted(octets: bytes) -> str:
    """Return an object identifier in the dotted form (X.690, section 8.19)."""
    numbers, number = [], 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escaped(value: str) -> str:
    """Escape a value as RFC 2253, section 2.4, and control characters as OpenSSL does."""
    last = len(value) - 1
    return "".join(
        f"\\{c}" if c in _SPECIAL or (c == " " and at in {0, last}) or (c == "#" and at == 0)
        else f"\\{ord(c):02X}" if ord(c) < 0x20 or ord(c) == 0x7F
        else c
        for at, c in enumerate(value)
    )  # fmt: skip


def printable(text: str, limit: int = MAX_TEXT, *, escape: str = "") -> str:
    """Make ``text`` fit for logs, headers and variables; the characters of ``escape`` are escaped, too."""
    if len(text) > limit:
        text = text[:limit] + CUT
    if text.isprintable() and not (escape and any(character in text for character in escape)):
        return text
    return "".join(c if c.isprintable() and c not in escape else _octets(c) for c in text)


def _octets(character: str) -> str:
    return "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))
