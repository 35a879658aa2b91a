"""An attempt to authenticate, as policies see it."""

from attrs import field, frozen

__all__ = ["AuthAttempt", "Authenticated"]


@frozen(slots=True)
class Authenticated:
    """The user as which a client has authenticated, and the mechanism."""

    mechanism: str
    user: str


@frozen(slots=True, kw_only=True)
class AuthAttempt:
    """One AUTH exchange (RFC 4954) that the client has completed, before its result is sent.

    ``password`` is set only if the mechanism transmits a readable one (PLAIN, LOGIN); it is not in ``repr()``.
    ``proven`` is whether the credentials match a store of the server.  It is None if no store was asked yet, as with a
    readable password, which the policies see first.
    """

    mechanism: str
    """As registered: ``PLAIN``, ``SCRAM-SHA-256``, …"""
    user: str
    """The authentication identity: a claim of the client until it is proven."""
    authorization: str = ""
    """The authorization identity, if the client gave one."""
    password: str | None = field(default=None, repr=False)
    proven: bool | None = None
