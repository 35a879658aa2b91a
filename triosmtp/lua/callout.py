"""Callouts: the session, the message and the answer of one run of scripts."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, field

from triosmtp.lua.host import HostObject, LuaFunction, LuaObject, LuaTable
from triosmtp.message import Message, Recipient
from triosmtp.message.header_edits import HeaderEdits
from triosmtp.policy import Session
from triosmtp.smtp import Address

if TYPE_CHECKING:
    from triosmtp.lua.api.resources import Judge
    from triosmtp.lua.engine import Engine
    from triosmtp.lua.state import LuaState

__all__ = ["Ac", "Answer", "Callout", "Mc", "Msg", "Response", "SessionScripts", "Vctx"]

_MAX_LINES: Final = 100  # that the scripts of a session may write to the log in one callout


class Vctx(HostObject):
    """``vctx``: the validation context, with the contexts and the answer."""

    lua_class = "vctx"


class Ac(HostObject):
    """``ac``: the accepted connection."""

    lua_class = "ac"


class Msg(HostObject):
    """``msg``: the message under way."""

    lua_class = "msg"


class Mc(HostObject):
    """``mc``: what builds a message; it leads to the contexts and the message."""

    lua_class = "mc"


class Response(HostObject):
    """``response`` of AUTH: scripts write the reply to it."""

    lua_class = "response"

    def __init__(self) -> None:
        self.text = b""


@define(slots=True, eq=False)
class Answer:
    """The answer of the scripts of one phase.  ``code`` is None if no script has set one."""

    code: int | None = None
    text: str = ""
    closes: bool = False
    """Whether the connection ends after the reply."""
    tarpit: float = 0.0
    """Seconds for which the reply is held back."""
    discard: str = ""
    """The reply for the log if a script has discarded the message; else ``""``."""


@define(slots=True, eq=False)
class SessionScripts:
    """Values that the scripts of one set keep for one session."""

    session: Session
    state: "LuaState"
    """The state that the tables are in."""
    table: LuaTable
    """The tables of the modules, and _TLS."""
    tls: LuaTable
    vctx: LuaObject
    ac: LuaObject
    msg: LuaObject
    mc: LuaObject
    judge: "Judge | None" = None
    """Returns why a message may not have a recipient that a script adds; ``""`` if it may."""
    called: set[int] = Factory(set)
    """The modules of which a callout has run."""
    dropped: list[tuple[object, str]] = Factory(list)
    """Recipients that a script has discarded at RCPT: the envelope, and the address."""


@define(slots=True, eq=False, kw_only=True)
class Callout:
    """One run of scripts: what host functions get as their first argument."""

    engine: "Engine"
    phase: str
    """The phase of triosmtp; or ``load``, ``init``, ``deinit``, ``rsrc_setup``, ``dealloc``, ``console``, ``auth``."""
    method: str = ""
    """The name of the callout: ``validate_rcptto``."""
    module: str = ""
    command: bytes = b""
    """The command of the client, if the callout gets it."""
    scripts: SessionScripts | None = None
    message: Message | None = None
    """The message, if its body has arrived."""
    recipient: Recipient | None = None
    """The recipient, at validate_data_spool_each_rcpt."""
    edits: HeaderEdits = Factory(HeaderEdits)
    """The changes of the message, or of the recipient's copy."""
    answer: Answer = Factory(Answer)
    at_end: list[Callable[[], None]] = Factory(list)
    """Functions that are called when the callout is over, however it ended."""
    after: list[LuaFunction] = Factory(list)
    """Functions of scripts that run behind it."""
    put_off: int = field(default=0, init=False)
    """How many functions were put off, with those that are over: one may put off the next."""
    lines: int = field(default=0, init=False)

    @property
    def session(self) -> Session | None:
        """The session; None in ``init`` and other callouts without one."""
        return None if self.scripts is None else self.scripts.session

    def set_recipient(self, address: Address) -> None:
        """Put another address in the place of the recipient."""
        assert self.message is not None, "only each_rcpt has a recipient"
        assert self.recipient is not None, "only each_rcpt has a recipient"
        self.recipient = self.message.replace_recipient(self.recipient, address)

    def printed(self, text: bytes) -> bool:  # noqa: ARG002 - for those that answer with it
        """Take what a script prints; return False if it is for the log."""
        return False

    def may_log(self) -> bool:
        """Count a line for the log; return whether it is to be written."""
        self.lines += 1
        return self.lines <= _MAX_LINES

    def close(self) -> None:
        """Call what is to be called at the end."""
        while self.at_end:
            self.at_end.pop()()
