"""An exchange as a generator: it yields what it needs next, and returns what the client claims and has proven.

So a mechanism reads like its RFC, and whoever drives it decides where time is spent: a :class:`Challenge` goes to the
client, a :class:`Lookup` to a store, a :class:`Derivation` to a thread.
"""

from collections.abc import Callable, Generator
from typing import TypeAlias

from attrs import field, frozen

from triosmtp.auth.password import ScramKeys, prepare_password
from triosmtp.auth.secret import Secret
from triosmtp.variables import TLSInfo

__all__ = [
    "Answer", "Challenge", "Circumstances", "Claim", "Derivation", "Exchange", "Lookup", "Malformed", "Step",
    "prepared", "prepared_identity", "primed",
]  # fmt: skip


@frozen(slots=True)
class Challenge:
    """Octets for the client; its response is sent into the generator."""

    data: bytes = b""


@frozen(slots=True)
class Lookup:
    """What is stored for a user is wanted: it is sent into the generator, the same for a user who is not known."""

    user: str


@frozen(slots=True)
class Derivation:
    """The keys of SCRAM are wanted of a secret: they are sent into the generator."""

    secret: Secret


@frozen(slots=True, kw_only=True)
class Claim:
    """The end of an exchange.

    ``password`` is a readable one that is still to be checked; where there is none, ``proven`` tells whether the client
    has proved itself, and ``reason`` why not, for the log.  ``last`` is what the client is told with success (a
    challenge that it answers with nothing: RFC 4954, section 4).  ``user`` and ``authorization`` are both prepared.
    """

    user: str
    authorization: str = ""
    password: str | None = field(default=None, repr=False)
    proven: bool = False
    reason: str = ""
    last: bytes = b""


class Malformed(Exception):  # noqa: N818 - how an exchange ends, not an error of ours
    """The client's response is not what the mechanism says it is; the text is for the log."""


@frozen(slots=True, kw_only=True)
class Circumstances:
    """What a mechanism may know of the connection."""

    hostname: str
    realm: str = ""
    tls: TLSInfo | None = None
    identity: str | None = None
    """Who the client certificate stands for, where it verified."""
    bindings: Callable[[str], bytes | None] = field(default=lambda _: None)
    """Gives the data of a channel binding (RFC 5056) by its type; None where it cannot be had."""
    plus: bool = False
    """Whether a mechanism with channel binding is offered, too."""


Step: TypeAlias = Challenge | Lookup | Derivation
Answer: TypeAlias = bytes | Secret | ScramKeys
Exchange: TypeAlias = Generator[Step, Answer, Claim]


def primed(exchange: Exchange, initial: bytes) -> Exchange:
    """Give the exchange with its first challenge answered by the client's initial response (RFC 4954, section 4)."""
    next(exchange)
    try:
        step = exchange.send(initial)
        while True:
            step = exchange.send((yield step))
    except StopIteration as stop:
        claim: Claim = stop.value
        return claim


def prepared(text: str) -> str:
    """Prepare a user's name or password for comparison.

    :raises Malformed: where it is none.
    """
    try:
        return prepare_password(text)
    except ValueError as error:
        raise Malformed(str(error)) from None


def prepared_identity(text: str) -> str:
    """Prepare an authorization identity as the user's name is, since the two are compared; none stays none.

    :raises Malformed: if it is no name.
    """
    return prepared(text) if text else ""
