"""The exceptions of triosmtp, and the problems of a configuration.

``str(error)`` and the attributes of an exception are for the log, and may hold every detail.  The SMTP peer receives a
separate, short reply without internal details.
"""

import errno
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar

from attrs import frozen

__all__ = [
    "ConfigError", "HandshakeError", "Position", "Problem", "QueryError", "Reject", "Severity", "TrioSMTPError",
    "UnknownNameError", "collect", "connect_failure", "is_transient", "needs_extra",
]  # fmt: skip

_T = TypeVar("_T")
_TRANSIENT: Final = {
    errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.ETXTBSY,
}  # fmt: skip


def is_transient(error: OSError) -> bool:
    """Return whether the same call may succeed later although no file or right is changed, as with a busy port."""
    return error.errno in _TRANSIENT


def connect_failure(error: OSError) -> str:
    """Return why no connection was made: trio's own message names only the address."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, BaseExceptionGroup) else (error.__cause__,)
    reasons = [os.strerror(each.errno) for each in causes if isinstance(each, OSError) and each.errno]
    return ", ".join(dict.fromkeys(reasons)) or error.strerror or str(error)


def needs_extra(package: str, extra: str) -> str:
    """Return what to say if ``package``, which an extra of triosmtp brings, is not installed."""
    return f'needs {package}: pip install "triosmtp[{extra}]"'


class TrioSMTPError(Exception):
    """The base of every error that triosmtp raises on purpose."""


@frozen(slots=True)
class Position:
    """A position in a configuration: the file as it was given or included, line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Severity(StrEnum):
    """Whether a configuration with a problem can be used."""

    ERROR = "error"
    WARNING = "warning"


@frozen(slots=True)
class Problem:
    """One error or warning of a configuration.

    ``source`` is the text of the line that ``position`` points into, or ``""`` if there is none (a missing file).
    """

    severity: Severity
    message: str
    position: Position | None = None
    source: str = ""
    transient: bool = False
    """Whether it may disappear although nothing is edited, as with an address that the host does not have yet."""

    def __str__(self) -> str:
        """Return ``FILE:LINE:COLUMN: error: …``, then the line and a caret under the column."""
        if self.position is None:
            return f"{self.severity}: {self.message}"
        text = f"{self.position}: {self.severity}: {self.message}"
        if not self.source:
            return text
        # Tabs stay tabs in the padding, so that the caret stands under its column in any terminal.
        pad = "".join(c if c == "\t" else " " for c in self.source[: self.position.column - 1])
        return f"{text}\n    {self.source}\n    {pad}^"


class ConfigError(TrioSMTPError):
    """A configuration that cannot be used; ``problems`` holds every error and warning found in one run, in order."""

    def __init__(self, problems: "tuple[Problem, ...] | list[Problem]") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    @property
    def transient(self) -> bool:
        """Whether the configuration may become usable although nothing is edited."""
        return all(problem.transient for problem in self.problems if problem.severity is Severity.ERROR)

    def __reduce__(self) -> "tuple[type[ConfigError], tuple[tuple[Problem, ...]]]":
        return ConfigError, (self.problems,)


def collect(problems: list[Problem], make: Callable[[], _T]) -> _T | None:
    """Return what ``make`` returns; if it raises ConfigError, add its problems to ``problems`` and return None.

    For parts that do not depend on one another: the error of one must not hide that of another.
    """
    try:
        return make()
    except ConfigError as error:
        problems += [problem for problem in error.problems if problem not in problems]
        return None


class UnknownNameError(LookupError):
    """A name in a configuration without its scope: one of the errors of the configuration."""


class QueryError(Exception):
    """A query for a scope or option that does not exist; the text says which."""


class HandshakeError(TrioSMTPError):
    """A TLS handshake that failed.

    ``reason`` is one of a fixed list (see :mod:`triosmtp.tls`), fit for a label of a metric; ``detail`` is for the log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Reject(TrioSMTPError):  # noqa: N818 - a decision, not an error
    """A refusal that a policy or a delivery raises: an SMTP reply, with a reason for the log.

    ``code`` is a reply code from 400 to 599 (RFC 5321, section 4.2); 421 ends the connection.  ``enhanced`` is an
    enhanced status code of the same class (RFC 3463).  ``text`` goes to the peer, on one line or several; ``reason``
    goes only to the log.  So does ``decided_by``, the name of the decider if it is more specific than the policy.
    ``closes`` ends the connection after the reply, as 421 always does.

    :raises ValueError: if the code is not a refusal, or ``enhanced`` is malformed or of another class.
    """

    def __init__(
        self,
        code: int = 550,
        enhanced: str | None = None,
        text: str = "Refused by policy",
        *,
        reason: str | None = None,
        decided_by: str = "",
        closes: bool = False,
    ) -> None:
        if not 400 <= code <= 599:
            raise ValueError(f"a refusal needs a code from 400 to 599, not {code!r}")
        if enhanced is None:
            enhanced = f"{code // 100}.7.1"
        parts = enhanced.split(".")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
            raise ValueError(f"an enhanced status code looks like 5.7.1, not {enhanced!r}")
        if parts[0] != str(code // 100):
            raise ValueError(f"enhanced status code {enhanced} is not of the class of {code}")
        self.code = code
        self.enhanced = enhanced
        self.text = text
        self.reason = reason
        self.decided_by = decided_by
        self.closes = closes
        super().__init__(f"{code} {enhanced} {text}" + (f" ({reason})" if reason else ""))
