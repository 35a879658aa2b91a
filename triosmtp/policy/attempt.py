"""An attempt to authenticate, as policies see it."""

from attrs import field, frozen

__all__ = ["AuthAttempt", "Authenticated"]


@frozen(slots=True)
class Authenticated:
    """Who a client has proved to be, and by which mechanism."""

    mechanism: str
    user: str


@frozen(slots=True, kw_only=True)
class AuthAttempt:
    """One exchange of AUTH (RFC 4954) that the client has finished, before its outcome is told.

    ``password`` is there only where the mechanism sent a readable one (PLAIN, LOGIN); it never shows in ``repr()``.
    ``proven`` tells whether the client has proved itself against a store of ours: None where no store was asked yet, as
    with a readable password, which policy sees first.
    """

    mechanism: str
    """As registered: ``PLAIN``, ``SCRAM-SHA-256``, …"""
    user: str
    """The authentication identity: the client's claim, until it is proven."""
    authorization: str = ""
    """The identity to act as, where the client gave one."""
    password: str | None = field(default=None, repr=False)
    proven: bool | None = None
