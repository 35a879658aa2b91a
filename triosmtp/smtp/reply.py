"""SMTP replies: values that render themselves for the wire (RFC 5321, section 4.2; enhanced codes: RFC 2034, 3463)."""

from functools import lru_cache

from attrs import frozen

__all__ = ["Reply"]

_MAX_TEXT = 480  # RFC 5321, section 4.5.3.1.5: 512 octets a line, with code, enhanced code and CRLF

_KEPT_LINES = 32


@frozen(slots=True)
class Reply:
    """One reply: a code, its text (one line or several), and an enhanced status code where one applies.

    Texts may hold anything a policy or a peer put there: rendering replaces whatever could break the line.
    """

    code: int
    text: str | tuple[str, ...]
    enhanced: str | None = None

    @property
    def positive(self) -> bool:
        """Whether the command was taken: 2yz or 3yz."""
        return self.code < 400

    def render(self, *, enhanced: bool = True, utf8: bool = False) -> bytes:
        """Give the bytes of this reply; ``utf8`` where the client asked for SMTPUTF8 (RFC 6531, section 3.7.4.1)."""
        text = self.text
        if isinstance(text, str) and text.isascii() and text.isprintable() and len(text) <= _MAX_TEXT:
            # Nearly every reply; cheaper than looking it up in a cache would be.
            if enhanced and self.enhanced:
                return f"{self.code} {self.enhanced} {text}\r\n".encode("ascii")
            return f"{self.code} {text}\r\n".encode("ascii")
        prefix = self.enhanced if enhanced else None
        lines = (text,) if isinstance(text, str) else text
        # A dump of contexts is never the same twice, and large.
        render = _render_lines if len(lines) <= _KEPT_LINES else _render_lines.__wrapped__
        return render(self.code, prefix, lines, utf8)


@lru_cache(maxsize=128)  # the reply to EHLO above all: many lines, and the same for every client
def _render_lines(code: int, enhanced: str | None, texts: tuple[str, ...], utf8: bool) -> bytes:
    lines = [line for text in texts for line in _lines(text, utf8)] or [b""]
    prefix = f"{enhanced} ".encode("ascii") if enhanced else b""
    last = len(lines) - 1
    return b"".join(b"%d%s%s%s\r\n" % (code, b" " if i == last else b"-", prefix, line) for i, line in enumerate(lines))


def _lines(text: str, utf8: bool) -> list[bytes]:
    if text.isascii() and text.isprintable() and len(text) <= _MAX_TEXT:
        return [text.encode("ascii")]
    lines = []
    for line in text.splitlines() or [""]:
        clean = "".join(c if c.isprintable() else "?" for c in line)
        raw = clean.encode("utf-8" if utf8 else "ascii", "replace")[:_MAX_TEXT]
        lines.append(raw.decode("utf-8", "ignore").encode() if utf8 else raw)
    return lines
