"""The answers of targets to one message, as the log shows them: bounded, and in printable lines."""

from collections.abc import Iterable
from typing import Final

__all__ = ["answer_lines"]

_MAX_ANSWER: Final = 200
"""Characters of one answer."""
_MAX_LINES: Final = 20
_MAX_RECIPIENTS: Final = 5
"""Recipients that are named for one answer."""


def answer_lines(answers: Iterable[tuple[str, str, object]]) -> tuple[str, ...]:
    """Return a line for each different answer of a target; ``answers`` are targets, recipients and answers.

    Recipients are named only if a target answered differently for them.  What is no text is left out: a delivery of
    the operator's own may return anything, and the message is delivered then.
    """
    by_target: dict[str, dict[str, list[str]]] = {}
    for target, recipient, answer in answers:
        if isinstance(answer, str) and answer:
            by_target.setdefault(target, {}).setdefault(answer[:_MAX_ANSWER], []).append(recipient)
    lines = []
    for target, found in by_target.items():
        for answer, recipients in found.items():
            names = f"{_named(recipients)}: " if len(found) > 1 else ""
            lines.append(f"{target}: {names}{_printable(answer)}")
    more = len(lines) - _MAX_LINES
    return (*lines[:_MAX_LINES], f"and {more} more") if more > 0 else tuple(lines)


def _named(recipients: list[str]) -> str:
    more = len(recipients) - _MAX_RECIPIENTS
    return _printable(", ".join(recipients[:_MAX_RECIPIENTS])) + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
