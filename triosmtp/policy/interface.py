"""The base class of policies: one async method for each phase, which returns to accept and raises Reject to refuse.

:data:`PHASES` is the list of the phases.
"""

from collections.abc import Mapping
from enum import Enum
from inspect import getattr_static, iscoroutinefunction, signature, unwrap
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from triosmtp.errors import Reject
from triosmtp.policy.auth_attempt import AuthAttempt
from triosmtp.policy.policy_session import Session
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Message, Recipient

__all__ = ["DISCARD", "DONE", "PHASES", "Done", "Phase", "Policy", "PolicyError", "UnknownCommandPolicy"]

Phase: TypeAlias = Literal[
    "connect", "ehlo", "starttls", "auth", "mailfrom", "rcptto", "data", "data_spool", "data_spool_each_rcpt"
]

PHASES: Final[tuple[Phase, ...]] = (
    "connect",
    "ehlo",
    "starttls",
    "auth",
    "mailfrom",
    "rcptto",
    "data",
    "data_spool",
    "data_spool_each_rcpt",
)
"""The phases of Momentum in their order, and ``starttls``, which Momentum does not have."""


class Done(Enum):
    """The type of :data:`DONE` and :data:`DISCARD`."""

    DONE = "done"
    DISCARD = "discard"


DONE: Final = Done.DONE
"""Return it to accept and end the phase: later policies of the list are not asked."""
DISCARD: Final = Done.DISCARD
"""Return it to accept and end the phase, and to discard the message: the client gets 250, and only the log says what
happened.  Before MAIL it holds for every message of the session; unless it was returned at ``connect``, only until
STARTTLS.  At ``data_spool_each_rcpt`` it holds for all recipients of the message.
"""


class PolicyError(Exception):
    """A failure of a policy that says itself how the client is refused; the policy has logged it."""

    def __init__(self, text: str, refusal: Reject) -> None:
        super().__init__(text)
        self.refusal = refusal


class Policy:
    """Decides about sessions and messages.  Derive from it and override the methods of the phases that you need.

    A method returns None to continue with the next policy, and then with the built-in rules of the phase.  It returns
    :data:`DONE` to skip the later policies: at ``mailfrom`` this waives ``TLS_Verify_Mode = "require"`` too, at
    ``rcptto`` it never waives the relay rules.  It raises :class:`~triosmtp.Reject` to refuse.  After any other
    exception the client gets 451 4.3.0 (421 4.3.0 at ``connect``), the traceback is logged, and the session goes on.
    Policies are asked before the built-in rules of their phase.

    Every ``validate_…`` method must be async, belong to a known phase, and take the arguments of that phase.  The
    definition of a subclass raises :class:`TypeError` otherwise.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):  # those of a mixin too
            if not name.startswith("validate_"):
                continue
            if name.removeprefix("validate_") not in PHASES:
                known = ", ".join(f"validate_{phase}" for phase in PHASES)
                raise TypeError(
                    f"{cls.__qualname__}.{name}: there is no such phase; the methods are {known}{_place(cls, name)}"
                )
            if not iscoroutinefunction(unwrap(getattr(cls, name))):
                raise TypeError(f"{cls.__qualname__}.{name} must be an async method{_place(cls, name)}")
            _check_signature(cls, name)

    @property
    def source(self) -> str:
        """The name of this policy in ``decided_by``: ``python:Name``."""
        return f"python:{type(self).__qualname__}"

    async def validate_connect(self, session: Session) -> Done | None:
        """Decide about a new connection, before the banner (and before the handshake under Use_SSL)."""

    async def validate_ehlo(self, session: Session, domain: str) -> Done | None:
        """Decide about EHLO or HELO; ``domain`` is the name that the client gave."""

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> Done | None:
        """Decide after a TLS handshake.

        A refusal is the reply to every later command but QUIT; under Use_SSL it is sent in place of the banner.
        """

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> Done | None:
        """Decide about an authentication attempt."""

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Decide about MAIL FROM; ``sender`` is false for the null reverse-path."""

    async def validate_rcptto(
        self, session: Session, recipient: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Decide about one RCPT TO, before the relay rules."""

    async def validate_data(self, session: Session) -> Done | None:
        """Decide about DATA, before the 354."""

    async def validate_data_spool(self, session: Session, message: "Message") -> Done | None:
        """Decide about a complete message, before its delivery and the final reply."""

    async def validate_data_spool_each_rcpt(
        self, session: Session, message: "Message", recipient: "Recipient"
    ) -> Done | None:
        """Decide about a complete message for one recipient.  A refusal refuses the message for all recipients.

        The message variable ``deliver_to`` chooses the Delivery of this recipient.
        """

    async def auth_decided(self, session: Session, attempt: AuthAttempt, status: str) -> None:
        """Take the outcome of an authentication attempt: ``pass``, ``fail`` or ``error``.  It may refuse a success."""


def _check_signature(cls: type[Policy], name: str) -> None:
    """Check that a method of ``cls`` can be called as :meth:`.Chain.ask` calls it.

    The signature of the outermost function is checked, because a decorator may pass other arguments on.

    :raises TypeError: with the name of the method, its place, and the arguments of the call.
    """
    expected = list(signature(getattr(Policy, name)).parameters)  # self first
    static = isinstance(getattr_static(cls, name), staticmethod | classmethod)
    found = signature(getattr(cls, name), follow_wrapped=False)
    try:
        found.bind(*expected[1 if static else 0 :])
    except TypeError as error:
        called = f"({', '.join(expected[1:])})"
        text = f"{cls.__qualname__}.{name} takes {found}, and is called with {called}: {error}{_place(cls, name)}"
        raise TypeError(text) from None


def _place(cls: type[Policy], name: str) -> str:
    """Return the end of an error message: the file and line of a method, if it has them."""
    method: Any = getattr(cls, name)
    code = getattr(unwrap(method) if callable(method) else method, "__code__", None)
    return "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"


class UnknownCommandPolicy(Policy):
    """A policy that is asked about commands that the server does not know, too: a milter.  Policies in Python are not.

    It is not a phase: such a command is refused in any case.
    """

    async def judge_unknown_command(self, session: Session, line: bytes) -> None:
        """Return for the usual reply, or raise :class:`~triosmtp.Reject` for another one."""
