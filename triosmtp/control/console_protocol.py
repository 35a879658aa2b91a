"""What passes between the console and the server: the words of a command, and its answer."""

import shlex

from attrs import frozen

__all__ = ["Answer", "split_words"]


@frozen(slots=True)
class Answer:
    """What a command gave: ``text`` for people, ``data`` (plain values, as JSON has them) for programs.

    ``status`` is what the console ends with: 0; 1 for no; 64 where the command makes no sense; 78 where a configuration
    or a certificate cannot be used.
    """

    text: str
    data: object = None
    status: int = 0


def split_words(line: str) -> list[str]:
    """Split a line as a shell does: quotes hold words together.

    :raises ValueError: where a quotation is not closed.
    """
    return shlex.split(line)
