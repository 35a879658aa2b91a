"""The tokens of the configuration language: which characters form words, strings and signs.

The parser requests a token at an offset, so that it can look ahead and go back without cost.  No text takes more than
linear time, even if a token is requested repeatedly: the end of a string, which may be far ahead, is searched once.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum
from functools import cached_property

from attrs import frozen

__all__ = ["Lexer", "Token", "TokenKind", "needs_quotes", "unclosed"]


class TokenKind(Enum):
    """The kinds of token; the value is how an error message calls it."""

    WORD = "a word"
    STRING = "a string"
    EQUALS = "`=`"
    OPEN_SCOPE = "`{`"
    CLOSE_SCOPE = "`}`"
    OPEN_LIST = "`(`"
    CLOSE_LIST = "`)`"
    OPEN_DICT = "`[`"
    CLOSE_DICT = "`]`"
    COMMA = "`,`"
    END = "the end of the file"
    BAD = "something malformed"


@frozen(slots=True)
class Token:
    """One token; ``text`` is the value of a word or string, and the error message of a bad one."""

    kind: TokenKind
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        """Call the token as an error message does."""
        if self.kind not in {TokenKind.WORD, TokenKind.STRING}:
            return str(self.kind.value)
        text = self.text if len(self.text) <= 40 else f"{self.text[:40]}…"
        return f"`{text}`" if self.kind is TokenKind.WORD else f'"{text}"'


_SIGNS = {
    "=": TokenKind.EQUALS,
    "{": TokenKind.OPEN_SCOPE,
    "}": TokenKind.CLOSE_SCOPE,
    "(": TokenKind.OPEN_LIST,
    ")": TokenKind.CLOSE_LIST,
    "[": TokenKind.OPEN_DICT,
    "]": TokenKind.CLOSE_DICT,
}
# The alternatives begin with different characters, and none of them repeats what another could take: no text needs
# more than linear time.  Possessive quantifiers would ensure that, but Python 3.11.2 misreads them.
_BLANKS = re.compile(r"(?:[ \t\r\n\f\v]|#[^\n]*|/\*(?s:.*?)\*/)+")
# A word may hold `/`, but `/*` begins a comment.
_WORD = re.compile(r"""(?:[^\s#"'={}\[\]()/\x00-\x1f\x7f-\x9f\ud800-\udfff]|/(?!\*))+""")
_LIST_WORD = re.compile(r"""(?:[^\s#"'={}\[\]()/,\x00-\x1f\x7f-\x9f\ud800-\udfff]|/(?!\*))+""")
_QUOTE = re.compile(r'\\.|"', re.DOTALL)
# The text after a string that is complete.  Otherwise a quote is missing, and this one, some lines further down,
# opens the next string.
_AFTER_STRING = re.compile(r"[\s,)\]}{=#]|/\*|\Z")
_ESCAPE = re.compile(r'\\(["\\])')
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\r(?!\n)")


def needs_quotes(text: str) -> bool:
    """Return whether ``text`` cannot be written as a bare word."""
    return _LIST_WORD.fullmatch(text) is None


class Lexer:
    """Reads the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def token(self, offset: int, *, commas: bool = False) -> Token:
        """Return the first token at or after ``offset``; with ``commas``, as in a list, a comma is a token."""
        text = self._text
        blanks = _BLANKS.match(text, offset)
        at = blanks.end() if blanks else offset
        if at >= len(text):
            return Token(TokenKind.END, "", at, at)
        char = text[at]
        if char in _SIGNS:
            return Token(_SIGNS[char], char, at, at + 1)
        if char in "\"'":
            return self._string(char, at)
        if char == "," and commas:
            return Token(TokenKind.COMMA, char, at, at + 1)
        word = (_LIST_WORD if commas else _WORD).match(text, at)
        if word:
            return Token(TokenKind.WORD, word[0], at, word.end())
        if char == "/":
            return Token(TokenKind.BAD, "this comment is never closed: expected `*/`", at, len(text))
        return Token(TokenKind.BAD, f"expected an ordinary character, found {_call(char)}", at, at + 1)

    @cached_property
    def _double_quotes(self) -> Sequence[int]:
        """Possible ends of a string in double quotes: each such quote without a backslash before it."""
        return array("L", (match.start() for match in _QUOTE.finditer(self._text) if match[0] == '"'))

    def _closing_quote(self, quote: str, offset: int) -> int:
        """Return the end of a string whose text begins at ``offset``; -1 if it has none."""
        if quote == "'":
            return self._text.find(quote, offset)
        found = bisect_left(self._double_quotes, offset)
        return self._double_quotes[found] if found < len(self._double_quotes) else -1

    def _string(self, quote: str, at: int) -> Token:
        text = self._text
        end_of_line = text.find("\n", at)
        end = self._closing_quote(quote, at + 1)
        spans_lines = 0 <= end_of_line < end
        if end < 0 or (spans_lines and not _AFTER_STRING.match(text, end + 1)):
            return Token(TokenKind.BAD, unclosed(quote), at, len(text) if end_of_line < 0 else end_of_line)
        value = text[at + 1 : end]
        if quote == '"':
            value = _ESCAPE.sub(r"\1", value)
        control = _CONTROL.search(value)
        if control:
            return Token(TokenKind.BAD, f"this string holds {_call(control[0])}", at, end + 1)
        return Token(TokenKind.STRING, value, at, end + 1)


def unclosed(quote: str) -> str:
    """Report that a string does not end on the line that it begins on."""
    return f"this string does not end on its line: expected a closing {quote}"


def _call(char: str) -> str:
    """Call a character that cannot be shown."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # what did not decode, as PEP 383 keeps it
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    return f"the {'white space' if char.isspace() else 'control'} character U+{code:04X}"
