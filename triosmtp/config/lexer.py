"""The tokens of the configuration language: which characters form words, strings and signs.

The lexer keeps no state: a token is asked for at an offset, so that the parser can look ahead and go back for nothing.
"""

import re
from enum import Enum

from attrs import frozen

__all__ = ["Kind", "Token", "needs_quotes", "next_token"]


class Kind(Enum):
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

    kind: Kind
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        """Call the token as an error message does."""
        if self.kind not in {Kind.WORD, Kind.STRING}:
            return str(self.kind.value)
        text = self.text if len(self.text) <= 40 else f"{self.text[:40]}…"
        return f"`{text}`" if self.kind is Kind.WORD else f'"{text}"'


_SIGNS = {
    "=": Kind.EQUALS,
    "{": Kind.OPEN_SCOPE,
    "}": Kind.CLOSE_SCOPE,
    "(": Kind.OPEN_LIST,
    ")": Kind.CLOSE_LIST,
    "[": Kind.OPEN_DICT,
    "]": Kind.CLOSE_DICT,
}
# Possessive quantifiers: nothing is ever tried again, so that no text takes more than linear time.
_BLANKS = re.compile(r"(?:[ \t\r\n\f\v]++|#[^\n]*+|/\*(?s:.*?)\*/)++")
# A word may hold `/`, but `/*` begins a comment.
_WORD = re.compile(r"""(?:[^\s#"'={}\[\]()/\x00-\x1f\x7f-\x9f\ud800-\udfff]++|/(?!\*))++""")
_LIST_WORD = re.compile(r"""(?:[^\s#"'={}\[\]()/,\x00-\x1f\x7f-\x9f\ud800-\udfff]++|/(?!\*))++""")
_DOUBLE = re.compile(r'"((?:[^"\\\n]++|\\[^\n])*+)"')
_SINGLE = re.compile(r"'([^'\n]*)'")
_ESCAPE = re.compile(r'\\(["\\])')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def needs_quotes(text: str) -> bool:
    """Whether ``text`` cannot be written as a bare word."""
    return _LIST_WORD.fullmatch(text) is None


def next_token(text: str, offset: int, *, commas: bool = False) -> Token:
    """Give the first token at or after ``offset``; with ``commas``, as in a list, a comma is a token."""
    blanks = _BLANKS.match(text, offset)
    at = blanks.end() if blanks else offset
    if at >= len(text):
        return Token(Kind.END, "", at, at)
    char = text[at]
    if char in _SIGNS:
        return Token(_SIGNS[char], char, at, at + 1)
    if char in "\"'":
        return _string(text, at)
    if char == "," and commas:
        return Token(Kind.COMMA, char, at, at + 1)
    word = (_LIST_WORD if commas else _WORD).match(text, at)
    if word:
        return Token(Kind.WORD, word[0], at, word.end())
    if char == "/":
        return Token(Kind.BAD, "this comment is never closed: expected `*/`", at, len(text))
    return Token(Kind.BAD, f"expected an ordinary character, found {_call(char)}", at, at + 1)


def _string(text: str, at: int) -> Token:
    quote = text[at]
    match = (_DOUBLE if quote == '"' else _SINGLE).match(text, at)
    if match is None:
        end = text.find("\n", at)
        message = f"this string does not end on its line: expected a closing {quote}"
        return Token(Kind.BAD, message, at, len(text) if end < 0 else end)
    value = _ESCAPE.sub(r"\1", match[1]) if quote == '"' else match[1]
    control = _CONTROL.search(value)
    if control:
        message = f"this string holds {_call(control[0])}"
        return Token(Kind.BAD, message, at, match.end())
    return Token(Kind.STRING, value, at, match.end())


def _call(char: str) -> str:
    """Call a character that cannot be shown."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # what did not decode, as PEP 383 keeps it
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    return f"the {'white space' if char.isspace() else 'control'} character U+{code:04X}"
