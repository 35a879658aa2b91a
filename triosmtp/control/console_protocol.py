"""What passes between the console and the server: one JSON object on each line, in both directions.

::

    {"words": ["config", "reload"]}
    {"status": 0, "text": "…", "data": {…}}
"""

import json
import shlex

from attrs import frozen

__all__ = ["ConsoleRequest", "ConsoleResponse", "split_words"]


@frozen(slots=True)
class ConsoleRequest:
    """One command: its words, as a shell would split them."""

    words: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the line to send."""
        return json.dumps({"words": self.words}).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "ConsoleRequest":
        """Parse a line.

        :raises ValueError: if it is no request.
        """
        try:
            words = json.loads(line)["words"]
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError("expected an object with words") from error
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("expected a list of strings as words")
        return cls(tuple(words))


@frozen(slots=True)
class ConsoleResponse:
    """The result of a command: ``text`` for people, ``data`` (plain values of JSON) for programs.

    ``status`` is the exit status of the console::

        0   done
        1   the answer is no
        64  a command that makes no sense
        70  a failure in the server
        77  the console is refused
        78  a configuration or certificate that cannot be used
    """

    text: str
    data: object = None
    status: int = 0

    def encode(self) -> bytes:
        """Return the line to send."""
        return json.dumps({"status": self.status, "text": self.text, "data": self.data}).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "ConsoleResponse":
        """Parse a line.

        :raises ValueError: if it is no response.
        """
        try:
            value = json.loads(line)
            return cls(str(value["text"]), value["data"], int(value["status"]))
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError("expected an object with status, text and data") from error


def split_words(line: str) -> list[str]:
    """Split a line as a shell does: quotes hold words together.

    :raises ValueError: if a quotation is not closed.
    """
    return shlex.split(line)
