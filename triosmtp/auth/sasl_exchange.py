"""A SASL exchange as a generator: it yields each step, and returns the claim of the client and whether it is proven.

A mechanism reads like its RFC.  The caller decides where each step runs: a :class:`Challenge` goes to the client, a
:class:`Lookup` to the password file, a :class:`KeyDerivation` to a thread, a :class:`Relay` to another server.
"""

from collections.abc import Callable, Generator
from typing import TypeAlias

from attrs import field, frozen

from triosmtp.auth.dovecot_codec import ServiceAnswer
from triosmtp.auth.password import ScramKeys, prepare_password
from triosmtp.auth.stored_credentials import StoredCredentials
from triosmtp.variables import TLSInfo

__all__ = [
    "Answer",
    "AuthServiceError",
    "Challenge",
    "Claim",
    "Exchange",
    "KeyDerivation",
    "Lookup",
    "MalformedResponse",
    "Relay",
    "SaslContext",
    "Step",
    "prepare_authorization_identity",
    "prepare_name",
    "with_initial_response",
]  # fmt: skip


@frozen(slots=True)
class Challenge:
    """Octets for the client.  Its response is sent into the generator."""

    data: bytes = b""


@frozen(slots=True)
class Lookup:
    """A request for the credentials of a user, known or not.  They are sent into the generator."""

    user: str


@frozen(slots=True)
class KeyDerivation:
    """A request to derive the keys of SCRAM.  They are sent into the generator."""

    credentials: StoredCredentials


@frozen(slots=True)
class Relay:
    """Octets of the client for an authentication service, None without an initial response.

    The answer of the service is sent into the generator.
    """

    data: bytes | None = field(repr=False)


@frozen(slots=True, kw_only=True)
class Claim:
    """The result of an exchange.

    ``password`` is a password in clear text that is still to be checked.  If it is None, ``proven`` says whether the
    client has proven its identity; if it has not, ``reason`` says why, for the log.  ``last`` is the additional data
    of a success, sent as a challenge that the client answers with an empty response (RFC 4954, section 4).  ``user``
    and ``authorization`` are prepared by SASLprep.
    """

    user: str
    authorization: str = ""
    password: str | None = field(default=None, repr=False)
    proven: bool = False
    reason: str = ""
    last: bytes = b""


class MalformedResponse(Exception):  # noqa: N818 - the end of an exchange, not an error of the program
    """A response of the client that violates the mechanism.  The text is for the log."""


class AuthServiceError(Exception):
    """The authentication service cannot check an attempt now.  The text says why, for the log."""


@frozen(slots=True, kw_only=True)
class SaslContext:
    """The properties of a connection that a mechanism uses."""

    hostname: str
    realm: str = ""
    tls: TLSInfo | None = None
    identity: str | None = None
    """The identity that the client certificate proves; None if there is none, or the certificate did not verify."""
    channel_binding: Callable[[str], bytes | None] = field(default=lambda _: None)
    """Returns the data of a channel binding (RFC 5056) of a type; None if the connection has no such binding."""
    offers_plus: bool = False
    """Whether a mechanism with channel binding is offered too."""


Step: TypeAlias = Challenge | Lookup | KeyDerivation | Relay
Answer: TypeAlias = bytes | StoredCredentials | ScramKeys | ServiceAnswer
Exchange: TypeAlias = Generator[Step, Answer, Claim]


def with_initial_response(exchange: Exchange, initial: bytes) -> Exchange:
    """Answer the first challenge of an exchange with the client's initial response (RFC 4954, section 4)."""
    next(exchange)
    try:
        step = exchange.send(initial)
        while True:
            step = exchange.send((yield step))
    except StopIteration as stop:
        claim: Claim = stop.value
        return claim


def prepare_name(text: str) -> str:
    """Prepare a user's name or password for comparison (SASLprep, RFC 4013).

    :raises MalformedResponse: if SASLprep forbids it.
    """
    try:
        return prepare_password(text)
    except ValueError as error:
        raise MalformedResponse(str(error)) from None


def prepare_authorization_identity(text: str) -> str:
    """Prepare an authorization identity like a user's name, as the two are compared.  An empty one stays empty.

    :raises MalformedResponse: if SASLprep forbids it.
    """
    return prepare_name(text) if text else ""
