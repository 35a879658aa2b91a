"""From the text of one file to its syntax tree.  After an error reading goes on at the next statement."""

import re
from typing import NoReturn, TypeAlias

from attrs import frozen

from triosmtp.config.lexer import Lexer, Token, TokenKind
from triosmtp.config.source import Place, Problems, Source

__all__ = ["Broken", "Dictionary", "Include", "Items", "Scalar", "Scope", "Setting", "Statement", "Value", "parse"]

MAX_DEPTH = 32  # of scopes in scopes, and of lists in lists

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")
_INCLUDES = {"include", "readonly_include"}
_TEXTS = {TokenKind.WORD, TokenKind.STRING}
_COLLECTIONS = {TokenKind.OPEN_LIST, TokenKind.OPEN_DICT}
_STATEMENT = 'a statement (`Name = value`, `Name { … }`, `Name "instance" { … }` or `include "path"`)'


@frozen(slots=True)
class Scalar:
    """A word, number or string."""

    text: str
    place: Place
    quoted: bool = False


@frozen(slots=True)
class Items:
    """A list: ``( a "b" )``."""

    values: "tuple[Value, ...]"
    place: Place


@frozen(slots=True)
class Dictionary:
    """A dictionary: ``[ key = value … ]``, in the order of the file."""

    entries: "tuple[tuple[Scalar, Value], ...]"
    place: Place


Value: TypeAlias = Scalar | Items | Dictionary


@frozen(slots=True)
class Setting:
    """``Name = value``."""

    name: str
    value: Value
    place: Place


@frozen(slots=True)
class Scope:
    """``Name { … }`` or ``Name "instance" { … }``."""

    name: str
    instance: Scalar | None
    body: "tuple[Statement, ...]"
    place: Place


@frozen(slots=True)
class Include:
    """``include "path"`` or ``readonly_include "path"``."""

    path: str
    place: Place


@frozen(slots=True)
class Broken:
    """A statement that cannot be read; ``name`` is what it begins with, as far as that can be a name."""

    name: str


Statement: TypeAlias = Setting | Scope | Include | Broken


def parse(source: Source, problems: Problems) -> tuple[Statement, ...]:
    """Return the statements of ``source``; statements that cannot be read are omitted and reported to ``problems``.

    :raises TooManyProblemsError: if there are too many errors.
    """
    return _Parser(source, problems).file()


class _SyntaxError(Exception):
    """Ends the statement that is being read."""

    def __init__(self, offset: int, message: str) -> None:
        self.offset = offset
        self.message = message


class _Parser:
    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._text = source.text
        self._lexer = Lexer(source.text)
        self._problems = problems
        self._at = 0  # offset of the next token
        self._depth = 0
        self._value_end = -1  # end of the last value: a word after it on its line was meant to belong to it

    def file(self) -> tuple[Statement, ...]:
        statements: list[Statement] = []
        while True:
            statements += self._statements()
            stray = self._peek()
            if stray.kind is TokenKind.END:
                return tuple(statements)
            self._error(stray.start, "this `}` closes nothing")
            self._at = stray.end

    # Tokens

    def _peek(self, *, commas: bool = False) -> Token:
        return self._lexer.token(self._at, commas=commas)

    def _take(self, *, commas: bool = False) -> Token:
        token = self._lexer.token(self._at, commas=commas)
        self._at = token.end
        return token

    def _place(self, token: Token) -> Place:
        return Place(self._source, token.start)

    def _error(self, offset: int, message: str) -> None:
        self._problems.error(Place(self._source, offset), message)

    def _refuse(self, token: Token, expected: str) -> NoReturn:
        if token.kind is TokenKind.BAD:
            raise _SyntaxError(token.start, token.text)
        offset = token.start
        if token.kind is TokenKind.END:  # the last thing that stands in the file: there is a line to show
            offset = len(self._text[:offset].rstrip())
        raise _SyntaxError(offset, f"expected {expected}, found {token}")

    # Statements

    def _statements(self) -> list[Statement]:
        """Read up to, and not over, a `}` or the end of the file."""
        statements: list[Statement] = []
        while True:
            first = self._peek()
            if first.kind in {TokenKind.END, TokenKind.CLOSE_SCOPE}:
                return statements
            try:
                statements.append(self._statement())
            except _SyntaxError as error:
                self._error(error.offset, error.message)
                statements.append(Broken(first.text if first.kind is TokenKind.WORD else ""))
                self._skip_to_statement(first.start if first.kind is TokenKind.OPEN_SCOPE else first.end)

    def _statement(self) -> Statement:
        name = self._take()
        if name.kind is not TokenKind.WORD or _NAME.fullmatch(name.text) is None:
            self._refuse(name, self._expected_statement(name))
        after = self._peek()
        if name.text.lower() in _INCLUDES and after.kind in _TEXTS | {TokenKind.BAD}:
            if after.kind is TokenKind.BAD:
                self._refuse(after, "a path")
            self._at = after.end
            return Include(after.text, self._place(after))
        if after.kind is TokenKind.EQUALS:
            return self._setting_or_scope(name, self._take())
        if after.kind in _COLLECTIONS:  # `AuthDigestMD5Parameters [ … ]`: the `=` may be left out
            return self._setting(name)
        instance = self._instance(name, after)
        brace = self._take()
        if brace.kind is TokenKind.EQUALS and instance is not None:
            brace = self._take()
        if brace.kind is not TokenKind.OPEN_SCOPE:
            if self._follows_value(name) and brace.kind is not TokenKind.BAD:
                self._refuse(name, self._expected_statement(name))
            if instance is None:
                self._refuse(brace, f"`=`, `{{` or an instance name after {name}")
            self._refuse(brace, f"`=` before {after}, or `{{` after it")
        return self._scope(name, instance, brace)

    def _instance(self, name: Token, after: Token) -> Scalar | None:
        if after.kind not in _TEXTS:
            return None
        if self._follows_value(name) and "\n" in self._text[name.end : after.start]:
            self._refuse(name, self._expected_statement(name))  # `Max_Message_Size = 10 MB`
        self._at = after.end
        return Scalar(after.text, self._place(after), quoted=after.kind is TokenKind.STRING)

    def _expected_statement(self, token: Token) -> str:
        if token.text.startswith(";"):
            return "a statement (no `;` stands between them)"
        if self._follows_value(token) and token.kind is not TokenKind.BAD:
            return "a statement after this value (one that holds white space must be quoted)"
        return _STATEMENT

    def _follows_value(self, token: Token) -> bool:
        """Return whether a value ended on the same line, so that the token was probably meant to belong to it."""
        return self._value_end >= 0 and "\n" not in self._text[self._value_end : token.start]

    def _setting_or_scope(self, name: Token, equals: Token) -> Statement:
        value = self._peek()
        if value.kind is TokenKind.OPEN_SCOPE:
            return self._scope(name, None, self._take())
        self._refuse_next_statement(equals, value, f"a value for {name.text}")
        return self._setting(name)

    def _setting(self, name: Token) -> Setting:
        setting = Setting(name.text, self._value(f"a value for {name.text}"), self._place(name))
        self._value_end = self._at
        return setting

    def _refuse_next_statement(self, equals: Token, value: Token, expected: str) -> None:
        """Report a missing value at its place, although the next line's name is in its place."""
        missing = value.kind in {TokenKind.CLOSE_SCOPE, TokenKind.END}
        if value.kind is TokenKind.WORD and "\n" in self._text[equals.end : value.start]:
            missing = self._begins_statement(value)
        if missing:
            raise _SyntaxError(equals.start, f"expected {expected} after this `=`")

    def _scope(self, name: Token, instance: Scalar | None, brace: Token) -> Scope:
        if self._depth >= MAX_DEPTH:
            raise _SyntaxError(name.start, f"scopes stand in each other more than {MAX_DEPTH} deep")
        self._depth += 1
        body = self._statements()
        self._depth -= 1
        if self._take().kind is TokenKind.END:
            self._error(brace.start, f"this `{{` is never closed: expected `}}` at the end of {name.text}")
        return Scope(name.text, instance, tuple(body), self._place(name))

    # Values

    def _value(self, expected: str, *, commas: bool = False, depth: int = 0) -> Value:  # noqa: RET503 - _refuse raises
        token = self._take(commas=commas)
        if token.kind in _TEXTS:
            return Scalar(token.text, self._place(token), quoted=token.kind is TokenKind.STRING)
        if depth > MAX_DEPTH:
            raise _SyntaxError(token.start, f"lists stand in each other more than {MAX_DEPTH} deep")
        if token.kind is TokenKind.OPEN_LIST:
            return self._list(token, depth)
        if token.kind is TokenKind.OPEN_DICT:
            return self._dictionary(token, depth)
        self._refuse(token, expected)

    def _list(self, opening: Token, depth: int) -> Items:
        values: list[Value] = []
        while True:
            token = self._peek(commas=True)
            if token.kind is TokenKind.END:
                raise _SyntaxError(opening.start, "this `(` is never closed: expected `)`")
            if token.kind is TokenKind.CLOSE_LIST:
                self._at = token.end
                return Items(tuple(values), self._place(opening))
            if token.kind is TokenKind.COMMA:
                self._at = token.end
                continue
            line = self._source.position(opening.start).line
            values.append(self._value(f"a value or the `)` of the list of line {line}", commas=True, depth=depth + 1))

    def _dictionary(self, opening: Token, depth: int) -> Dictionary:
        entries: list[tuple[Scalar, Value]] = []
        while True:
            key = self._take(commas=True)
            if key.kind is TokenKind.END:
                raise _SyntaxError(opening.start, "this `[` is never closed: expected `]`")
            if key.kind is TokenKind.CLOSE_DICT:
                return Dictionary(tuple(entries), self._place(opening))
            if key.kind is TokenKind.COMMA:
                continue
            if key.kind not in _TEXTS:
                line = self._source.position(opening.start).line
                self._refuse(key, f"`key = value` or the `]` of the dictionary of line {line}")
            equals = self._take(commas=True)
            if equals.kind is not TokenKind.EQUALS:
                self._refuse(equals, f"`=` and a value after the key {key}")
            value = self._value(f"a value for the key {key}", commas=True, depth=depth + 1)
            entries.append((Scalar(key.text, self._place(key), quoted=key.kind is TokenKind.STRING), value))

    # Recovery

    def _skip_to_statement(self, offset: int) -> None:
        """Skip to the first line at or after ``offset`` that looks like a statement, or to the `}` of this scope."""
        self._at = offset
        depth = 0
        while True:
            token = self._peek()
            if token.kind is TokenKind.END:
                return
            if token.kind is TokenKind.CLOSE_SCOPE:
                if depth == 0:
                    return
                depth -= 1
                if depth == 0:
                    self._at = token.end
                    return
            elif token.kind is TokenKind.OPEN_SCOPE:
                depth += 1
            elif (
                depth == 0
                and token.kind is TokenKind.WORD
                and self._first_on_line(token)
                and self._begins_statement(token)
            ):
                return
            self._at = token.end

    def _first_on_line(self, token: Token) -> bool:
        """Return whether a line ends between the token that was taken last and this one."""
        return "\n" in self._text[self._at : token.start]

    def _begins_statement(self, token: Token) -> bool:
        if _NAME.fullmatch(token.text) is None:
            return False
        second = self._lexer.token(token.end)
        if token.text.lower() in _INCLUDES and second.kind in _TEXTS:
            return True
        if second.kind in _TEXTS:
            second = self._lexer.token(second.end)
            return second.kind is TokenKind.OPEN_SCOPE
        return second.kind in {TokenKind.EQUALS, TokenKind.OPEN_SCOPE} | _COLLECTIONS
