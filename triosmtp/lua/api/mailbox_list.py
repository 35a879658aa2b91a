"""Address lists of header fields (RFC 5322, section 3.4), read as mail programs do, in one pass."""

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

__all__ = ["COMPONENTS", "MAX_LIST", "Mailbox", "component", "read_mailboxes"]

_MAX_MAILBOXES: Final = 10_000
MAX_LIST: Final = 64 * 1024
"""Characters of a list that are read."""
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|\\(.)|([()<>,:;])|([^\s"\\()<>,:;]+)|(\s+)|(.)', re.DOTALL)
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)

COMPONENTS: Final = ("all", "localpart", "user", "detail", "domain", "display")
"""The words that select a part of an address."""


@frozen(slots=True)
class Mailbox:
    """One address of a list."""

    display: str
    """The display name, without quotes."""
    localpart: str
    domain: str
    """Empty if there is no ``@``."""

    @property
    def address(self) -> str:
        """``localpart@domain``."""
        return f"{self.localpart}@{self.domain}" if self.domain else self.localpart


def component(mailbox: Mailbox, name: str) -> str:
    """Return a part of an address: ``user`` and ``detail`` are what stands before and after a ``+``.

    :raises ValueError: if there is no such part.
    """
    user, _, detail = mailbox.localpart.partition("+")
    values = {
        "all": mailbox.address,
        "localpart": mailbox.localpart,
        "user": user,
        "detail": detail,
        "domain": mailbox.domain,
        "display": mailbox.display,
    }
    if name not in values:
        raise ValueError(f"{name!r} is none of {', '.join(COMPONENTS)}")
    return values[name]


class _Reader:
    """The words of one mailbox, while it is read."""

    def __init__(self) -> None:
        self.words: list[str] = []  # of the display name, or of an address without brackets
        self.angle: list[str] | None = None  # within < and >
        self.closed = False

    def add(self, text: str) -> None:
        if self.angle is not None and not self.closed:
            self.angle.append(text)
        elif not self.closed:
            self.words.append(text)

    def mailbox(self) -> Mailbox | None:
        written = self.words if self.angle is None else self.angle
        address = "".join(each for each in written if not each.isspace())
        display = "" if self.angle is None else " ".join("".join(self.words).split())
        if self.angle is not None and address.startswith("@") and ":" in address:  # a source route
            address = address.rpartition(":")[2]
        localpart, at, domain = address.rpartition("@")
        if not at:
            localpart, domain = domain, ""
        return Mailbox(display, localpart, domain) if localpart or domain else None


def read_mailboxes(text: str) -> list[Mailbox]:
    """Return the addresses of a list, those of groups too; comments are ignored, and what exceeds :data:`MAX_LIST`."""
    found = []
    for mailbox in _read(text[:MAX_LIST]):
        found.append(mailbox)
        if len(found) >= _MAX_MAILBOXES:
            break
    return found


def _read(text: str) -> Iterator[Mailbox]:
    reader, comments = _Reader(), 0
    for quoted, pair, special, word, blank, other in _TOKEN.findall(text):
        if special and special in "()":
            comments = comments + 1 if special == "(" else max(comments - 1, 0)
        elif comments:
            continue
        elif special == "<":
            reader.angle = []
        elif special == ">":
            reader.closed = reader.angle is not None
        elif special == ":" and reader.angle is None:
            reader = _Reader()  # the name of a group
        elif special and special in ",;":
            if (mailbox := reader.mailbox()) is not None:
                yield mailbox
            reader = _Reader()
        else:
            reader.add(_PAIR.sub(r"\1", quoted) if quoted else pair or special or word or blank or other)
    if (mailbox := reader.mailbox()) is not None:
        yield mailbox
