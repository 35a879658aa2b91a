"""SMTP replies and their form on the wire (RFC 5321, section 4.2; enhanced status codes: RFC 2034, RFC 3463)."""

import re
from functools import lru_cache

from attrs import frozen

__all__ = ["Reply"]

_MAX_TEXT = 480  # RFC 5321, section 4.5.3.1.5: 512 octets a line, with code, enhanced code and CRLF

_KEPT_LINES = 32
_plain_text = re.compile(rf"[ -~]{{0,{_MAX_TEXT}}}").fullmatch


@frozen(slots=False)
class Reply:
    """One reply: a code, a text of one or more lines, and the enhanced status code if there is one.

    The text may hold any characters: :meth:`render` replaces those that are not printable.
    """

    code: int
    text: str | tuple[str, ...]
    enhanced: str | None = None

    @property
    def positive(self) -> bool:
        """Whether the command was accepted: 2yz or 3yz."""
        return self.code < 400

    def render(self, *, enhanced: bool = True, utf8: bool = False) -> bytes:
        """Return the bytes of this reply; ``utf8`` if the client asked for SMTPUTF8 (RFC 6531, section 3.7.4.1)."""
        text = self.text
        if isinstance(text, str) and _plain_text(text):  # nearly every reply
            if enhanced and self.enhanced:
                return f"{self.code} {self.enhanced} {text}\r\n".encode("ascii")
            return f"{self.code} {text}\r\n".encode("ascii")
        prefix = self.enhanced if enhanced else None
        lines = (text,) if isinstance(text, str) else text
        # A dump of contexts is large and different each time.
        render = _render_lines if len(lines) <= _KEPT_LINES else _render_lines.__wrapped__
        return render(self.code, prefix, lines, utf8)


@lru_cache(maxsize=128)
def _render_lines(code: int, enhanced: str | None, texts: tuple[str, ...], utf8: bool) -> bytes:
    lines = [line for text in texts for line in _lines(text, utf8)] or [b""]
    prefix = f"{enhanced} ".encode("ascii") if enhanced else b""
    last = len(lines) - 1
    return b"".join(b"%d%s%s%s\r\n" % (code, b" " if i == last else b"-", prefix, line) for i, line in enumerate(lines))


def _lines(text: str, utf8: bool) -> list[bytes]:
    if _plain_text(text):
        return [text.encode("ascii")]
    lines = []
    for line in text.splitlines() or [""]:
        clean = "".join(c if c.isprintable() else "?" for c in line)
        raw = clean.encode("utf-8" if utf8 else "ascii", "replace")[:_MAX_TEXT]
        lines.append(raw.decode("utf-8", "ignore").encode() if utf8 else raw)
    return lines
