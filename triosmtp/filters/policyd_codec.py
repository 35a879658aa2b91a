"""Postfix's policy protocol (SMTPD_POLICY_README) without input or output: attributes in, octets out, and the answer.

A request is a line ``name=value`` for each attribute, then an empty line.  An answer has the same form; its attribute
``action`` is what counts.
"""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["MAX_ANSWER", "MAX_VALUE", "AnswerError", "AnswerReader", "encode_request"]

MAX_ANSWER: Final = 4096
"""Octets of a whole answer."""
MAX_VALUE: Final = 1024
"""Characters of one value of a request; a longer one is cut."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_CONTROL_OCTET = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # a tab may stand before a text


class AnswerError(ValueError):
    """An answer that cannot be applied; the text says why."""


def encode_request(attributes: Sequence[tuple[str, str]]) -> bytes:
    """Encode a request in UTF-8.  Control characters in values become ``?``, so that no value can add an attribute."""
    lines = [f"{name}={value}" for name, value in attributes]
    if not "".join(lines).isprintable() or max(map(len, lines)) > MAX_VALUE:  # nearly no request
        lines = [f"{name}={_CONTROL.sub('?', value[:MAX_VALUE])}" for name, value in attributes]
    lines += ("", "")
    return "\n".join(lines).encode("utf-8", "replace")


class AnswerReader:
    """Reads one answer, however its octets are divided."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def begun(self) -> bool:
        """Whether a part of the answer has arrived."""
        return bool(self._data)

    def receive_data(self, data: bytes) -> str | None:
        """Take octets; return the action when the answer is complete, else None.

        :raises AnswerError: if the answer is too long or malformed, or if anything follows it: then an answer could
            be taken for that of the next request.
        """
        self._data += data
        if len(self._data) > MAX_ANSWER:
            raise AnswerError(f"an answer of more than {MAX_ANSWER} octets")
        text = self._data.replace(b"\r\n", b"\n")
        answer, end, rest = text.partition(b"\n\n")
        if not end:
            if text.startswith(b"\n"):
                raise AnswerError("an answer without an action")
            return None
        if rest:
            raise AnswerError("octets behind the end of the answer")
        return _action_of(answer)


def _action_of(answer: bytes) -> str:
    for line in answer.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals:
            raise AnswerError(f"a line that is not name=value: {line[:60]!r}")
        if name == b"action":
            if _CONTROL_OCTET.search(value):
                raise AnswerError(f"a control character in the action {value[:60]!r}")
            try:
                return value.decode("utf-8").strip(" \t")
            except UnicodeDecodeError:
                raise AnswerError(f"an action that is not UTF-8: {value[:60]!r}") from None
    raise AnswerError("an answer without an action")
