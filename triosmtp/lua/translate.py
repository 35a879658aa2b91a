r"""Translates Momentum's Lua into Lua 5.1, token by token; every token stays on its line.

What the dialect adds, and its translation:

- ``a != b`` is ``a ~= b``; ``!a`` is ``not a``.
- ``a & b`` is ``(("")["&"](a,b))``, and so are ``| ^^ << >> \`` and the unary ``~``.  A field of a string is one of
  the table ``string``, so every environment of a function has the operators (``prelude/operators.lua``).
- ``arg`` in a function with ``...``, as in Lua 5.0, is a local variable that is made at its beginning.
- ``for x in t do`` is ``for x in ("")["in"](t) do``, for ``__iter``.
- Numbers and escapes are written as Lua 5.1 has them (``lexer.py``).

To find the operands of an operator, expressions are read by precedence, with a stack of its own: how deep a script
nests is no matter of Python's stack.  Statements are not parsed: the compiler of Lua does that afterwards.
"""

from typing import Final

from attrs import Factory, define

from triosmtp.lua.lexer import KEYWORDS, LuaSyntaxError, Token, chunk_name, tokens

__all__ = ["LuaSyntaxError", "translate"]

_PRIORITY: Final[dict[bytes, tuple[int, int]]] = {
    b"or": (1, 1), b"and": (2, 2),
    b"<": (3, 3), b">": (3, 3), b"<=": (3, 3), b">=": (3, 3), b"~=": (3, 3), b"!=": (3, 3), b"==": (3, 3),
    b"..": (5, 4),
    b"+": (6, 6), b"-": (6, 6), b"&": (6, 6), b"|": (6, 6), b"^^": (6, 6),
    b"*": (7, 7), b"/": (7, 7), b"%": (7, 7), b"<<": (7, 7), b">>": (7, 7), b"\\": (7, 7),
    b"^": (10, 9),
}  # fmt: skip
"""The left and right priority of the binary operators, as in the parser of Lua."""
_UNARY: Final = frozenset({b"not", b"-", b"#", b"~", b"!"})
_UNARY_PRIORITY: Final = 8
_ADDED: Final = frozenset({b"&", b"|", b"^^", b"<<", b">>", b"\\", b"~"})
_LITERALS: Final = frozenset({b"number", b"string", b"nil", b"true", b"false", b"..."})
_CLOSING: Final = {b"(": b")", b"[": b"]", b"{": b"}"}
_BLOCKS: Final = frozenset({b"function", b"if", b"do", b"repeat"})
_SHOWN: Final = KEYWORDS | _ADDED | {b"!", b"!="}
_WITHOUT_ITER: Final = frozenset({b"pairs", b"ipairs"})  # they return functions; LuaJIT knows their loops


@define(slots=True, eq=False)
class _Operator:
    """An operator that waits for the end of its right operand."""

    at: int
    kind: bytes
    right: int
    start: int
    """Index of the first token of the operation: of the left operand, or of a unary operator."""


@define(slots=True, eq=False)
class _Frame:
    """A bracket, a block or the whole chunk; within it, the expression that is being read."""

    opening: bytes
    is_suffix: bool = False
    """Whether it is part of a call or an index, so that more of them may follow."""
    operators: list[_Operator] = Factory(list)
    start: int = -1
    """Index of the first token of the operand; -1: an operand is expected."""
    may_go_on: bool = False
    """Whether the operand may be called or indexed."""
    is_member: bool = False
    """Whether a dot or colon came, so that a name of the same operand follows."""
    is_parameters: bool = False
    """Whether it is the list of the parameters of a function."""
    iterator: int = -1
    """Index of the ``in`` of a loop whose ``do`` is still to come."""


@define(slots=True, eq=False)
class _Function:
    """A function whose body is being read."""

    has_parameters: bool = False
    """Whether the list of its parameters has begun."""
    parameters_end: int = -1
    """Index of the token that ends a list of parameters with ``...``; -1 if there is none."""
    uses_arg: bool = False
    uses_dots: bool = False


def translate(text: bytes, chunk: bytes) -> bytes:
    """Return the text of a chunk in Lua 5.1, with as many lines.

    :raises LuaSyntaxError: with file and line, if an added operator or form is malformed.
    """
    reader = _Reader(list(tokens(text, chunk)), chunk)
    reader.read()
    return b"".join(b"%b%b%b%b" % (each.space, each.before, each.text, each.after) for each in reader.tokens)


class _Reader:
    """Reads the tokens of a chunk once, and marks what is to be written differently."""

    def __init__(self, all_tokens: list[Token], chunk: bytes) -> None:
        self.tokens = all_tokens
        self._chunk = chunk
        self._frames = [_Frame(b"chunk")]
        self._functions: list[_Function] = []

    def read(self) -> None:
        """Mark every token."""
        for at, token in enumerate(self.tokens):
            frame, kind = self._frames[-1], token.kind
            if frame.start >= 0 and kind in _PRIORITY:
                self._binary(frame, at, kind)
            elif kind in _UNARY:
                self._unary(frame, at, kind)
            elif kind in _ADDED or kind == b"!=":
                raise self._unexpected(at)
            elif kind == b"name" or kind in _LITERALS:
                self._operand(frame, at, kind)
            elif kind in _CLOSING:
                self._open(frame, at, kind)
            elif kind in (b")", b"]", b"}"):
                self._close(at, kind)
            elif kind in (b".", b":"):
                frame.is_member = frame.start >= 0
            else:
                self._word(frame, at, kind)

    # Tokens that belong to expressions.

    def _binary(self, frame: _Frame, at: int, kind: bytes) -> None:
        left, right = _PRIORITY[kind]
        self._reduce(frame, at, left)
        frame.operators.append(_Operator(at, kind, right, frame.start))
        frame.start = -1
        if kind == b"!=":
            self.tokens[at].text = b"~="

    def _unary(self, frame: _Frame, at: int, kind: bytes) -> None:
        if frame.start >= 0:
            if kind in (b"~", b"!"):
                raise self._unexpected(at)
            self._finish(frame, at)
        frame.operators.append(_Operator(at, kind, _UNARY_PRIORITY, at))
        if kind == b"!":
            self.tokens[at].text = b" not "

    def _operand(self, frame: _Frame, at: int, kind: bytes) -> None:
        if self._functions and kind in (b"name", b"...") and not frame.is_member:
            self._variable(frame, kind, self.tokens[at].text)
        if frame.start >= 0:
            if frame.is_member or (kind == b"string" and frame.may_go_on):  # a field, or a call with a string
                frame.is_member = False
                return
            self._finish(frame, at)  # the next statement
        frame.start = at
        frame.may_go_on = kind == b"name"

    def _variable(self, frame: _Frame, kind: bytes, name: bytes) -> None:
        """Note what decides whether a function has ``arg``, the table that Lua 5.0 had for ``...``."""
        if kind == b"...":
            self._functions[-1].uses_dots |= not frame.is_parameters
        elif name == b"arg" and frame.is_parameters:
            self._functions[-1].uses_dots = True  # it is a parameter
        elif name == b"arg":
            for function in reversed(self._functions):
                if function.parameters_end >= 0:
                    function.uses_arg = True
                    break

    def _open(self, frame: _Frame, at: int, kind: bytes) -> None:
        is_suffix = frame.start >= 0 and frame.may_go_on
        if not is_suffix:
            if frame.start >= 0:
                self._finish(frame, at)
            frame.start = at
        opened = _Frame(kind, is_suffix)
        if frame.opening == b"function" and kind == b"(" and not self._functions[-1].has_parameters:
            self._functions[-1].has_parameters = opened.is_parameters = True
        self._frames.append(opened)

    def _close(self, at: int, kind: bytes) -> None:
        inner = self._frames[-1]
        self._finish(inner, at)
        if _CLOSING.get(inner.opening) != kind:
            raise self._unexpected(at)
        self._frames.pop()
        self._frames[-1].may_go_on = (inner.is_suffix or kind == b")") and not inner.is_parameters
        if inner.is_parameters and self.tokens[at - 1].kind == b"...":
            self._functions[-1].parameters_end = at

    # Other tokens: each ends an expression.

    def _word(self, frame: _Frame, at: int, kind: bytes) -> None:
        self._finish(frame, at)
        match kind:
            case b"function":
                frame.start = at
                frame.may_go_on = False
                self._frames.append(_Frame(kind))
                self._functions.append(_Function())
            case b"if" | b"repeat":
                self._frames.append(_Frame(kind))
            case b"do":
                if frame.iterator >= 0:
                    self.tokens[at - 1].after += b")"
                    frame.iterator = -1
                self._frames.append(_Frame(kind))
            case b"end" | b"until":
                if (kind == b"until") != (frame.opening == b"repeat") or frame.opening not in _BLOCKS:
                    raise self._unexpected(at)
                self._frames.pop()
                if frame.opening == b"function":
                    self._end_function(self._functions.pop())
            case b"in":
                names, call = self.tokens[at + 1 : at + 2], self.tokens[at + 2 : at + 3]
                if not (names and names[0].text in _WITHOUT_ITER and call and call[0].kind == b"("):
                    self.tokens[at].after = b' ("")["in"]('
                    frame.iterator = at

    def _end_function(self, function: _Function) -> None:
        if function.uses_arg and not function.uses_dots:
            self.tokens[function.parameters_end].after += b' local arg = ("")["arg"](...);'

    def _finish(self, frame: _Frame, at: int) -> None:
        """End the expression before the token ``at``."""
        if frame.start >= 0:
            self._reduce(frame, at, 0)
        elif any(each.kind in _ADDED for each in frame.operators):
            raise self._unexpected(at)
        frame.operators.clear()
        frame.start = -1
        frame.may_go_on = frame.is_member = False

    def _reduce(self, frame: _Frame, at: int, left: int) -> None:
        """Complete the operators whose right operand ends before ``at``: those that bind as tightly as ``left``."""
        while frame.operators and left <= frame.operators[-1].right:
            operator = frame.operators.pop()
            if operator.kind in _ADDED:
                self._write_call(operator, self.tokens[at - 1])
            frame.start = operator.start

    def _write_call(self, operator: _Operator, last: Token) -> None:
        key = operator.kind.replace(b"\\", b"\\\\")
        opening = b'(("")["' + key + b'"]('
        first = self.tokens[operator.start]
        if operator.at == operator.start:
            first.text = opening
        else:
            first.before = opening + first.before
            self.tokens[operator.at].text = b","
        last.after += b"))"

    def _unexpected(self, at: int) -> LuaSyntaxError:
        token = self.tokens[at]
        near = (token.kind if token.kind in _SHOWN else token.text)[:60].decode("utf-8", "replace") or "<eof>"
        return LuaSyntaxError(f"{chunk_name(self._chunk)}:{token.line}: unexpected symbol near '{near}'")
