"""The table of the protocol: each command, the states in which it is allowed, and the states that follow.

Two facts make the server's side of an SMTP dialogue a table:

1. *A command alone changes nothing.*  Its meaning is settled by the reply (RFC 5321, section 4.1.4: a refused EHLO or
   MAIL leaves everything as it was).  So a state is left only when a reply is sent.  The first digit of the reply and
   the row of the command decide the next state.  BDAT is the exception: octets follow it regardless of its reply.  So
   it enters CHUNK at once, and the reply after its octets leads to the next state.
2. *At any time at most one reply is owed.*  Commands behind the one that waits for its reply stay in the buffer and are
   not parsed, because the reply decides whether they are in sequence.  PIPELINING (RFC 2920) and an exact switch to TLS
   follow from this: nothing behind STARTTLS has been read.

A :class:`Transition` is a row.  ``transitions`` maps each state in which the command is allowed to the state that a
positive reply leads to.  In every other state the command is out of sequence (503).  ``refused`` maps states to those
that a negative reply leads to; other states are kept.  Some rows are not commands but have replies: the banner, a
response of AUTH, the end of a chunk, the end of the body.  The replies 221 and 421 end the connection in every state.

The states and the ways between them::

    CONNECTED     the banner is owed                (banner) 220 -> START or READY    4yz, 5yz -> REFUSED
    REFUSED       the banner was a refusal          QUIT only (RFC 5321, section 3.1)
    START         EHLO or HELO is required          EHLO, HELO -> READY
    READY         no transaction                    MAIL -> MAIL
    MAIL          a sender, no recipient            RCPT -> RCPT                      refused -> RCPT_REFUSED
    RCPT_REFUSED  like MAIL, a RCPT was refused     RCPT -> RCPT                      DATA is 554, not 503
    RCPT          at least one recipient            DATA 354 -> BODY
    BODY          the body arrives                  (end of body) -> READY after every reply
    CHUNK         the octets of a BDAT arrive       (end of chunk) -> CHUNKS          refused -> READY
                                                    (end of body) -> READY after every reply
    AUTH          the response to a 334 is due      (response) 235 -> READY, 334 -> AUTH    refused -> READY
    CHUNKS        between two chunks                BDAT -> CHUNK                     RSET -> READY
    SWITCHING     220 to STARTTLS was sent          (handshake) -> START, all forgotten (RFC 3207, section 4.2)
    CLOSED        the end

XCLIENT of a trusted peer leads back to CONNECTED (:meth:`~triosmtp.smtp.Connection.change_peer`): its reply is the
banner.

Other results of earlier commands are in :class:`~triosmtp.smtp.dialogue_state.DialogueState`.  State and results change
when a reply is sent or a handshake is complete, by these rows only.

A command that cannot be accepted is a :class:`~triosmtp.smtp.dialogue_state.CommandError`: the reply, and the reason
for the log.  It counts as an error, and so does each refusal of a command that was in sequence.  So no dialogue
continues for ever without a message.  One error does not count: a client that uses PIPELINING has sent ``RCPT`` and
``DATA`` before it reads that ``MAIL`` was refused.  This holds for octets that were received before the refusal was
written, and for :data:`~triosmtp.smtp.error_limit.MAX_PIPELINED_AFTER_REFUSAL` commands at most.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from attrs import evolve, field, frozen

from triosmtp.smtp.argument import (
    Parser,
    PathParser,
    no_path,
    parse_bdat,
    parse_data,
    parse_ehlo,
    parse_helo,
    parse_help,
    parse_mail,
    parse_plain_mail,
    parse_plain_rcpt,
    parse_rcpt,
    parse_starttls,
    parse_vrfy,
    without_argument,
)
from triosmtp.smtp.auth_line import parse_auth
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.protocol_event import Noop, Quit, Reset
from triosmtp.smtp.reply import Reply
from triosmtp.smtp.trusted_command import (
    TRUSTED_KEYWORDS,
    parse_xclient,
    parse_xdumpcontext,
    parse_xremoteip,
    parse_xsetcontext,
)

__all__ = [
    "BAD_COMMAND",
    "BANNER",
    "BANNER_HELLO_REQUIRED",
    "COMMANDS",
    "END_OF_BODY",
    "END_OF_CHUNK",
    "FATAL",
    "HANDSHAKE",
    "IN_ORDER",
    "NOT_IMPLEMENTED",
    "PEER_CHANGED",
    "RESPONSE",
    "TRUSTED_COMMANDS",
    "Command",
    "State",
    "Transition",
    "ehlo_keywords",
    "trusted_command",
]  # fmt: skip


class State(IntEnum):
    """The states.  Up to READY there is no transaction.  From BODY on no command is read."""

    CONNECTED = 0
    REFUSED = 1
    START = 2
    READY = 3
    MAIL = 4
    RCPT_REFUSED = 5
    RCPT = 6
    CHUNKS = 7
    AUTH = 8
    BODY = 9
    CHUNK = 10
    SWITCHING = 11
    CLOSED = 12


StateMap = Mapping[State, State]

_OK = Reply(250, "Ok", "2.0.0")
_BAD_SEQUENCE = Reply(503, "Bad sequence of commands", "5.5.1")
_HELLO_FIRST = Reply(503, "Send EHLO first", "5.5.1")
_MAIL_FIRST = Reply(503, "Need MAIL command first", "5.5.1")


def _from(*states: State, to: State | None = None) -> StateMap:
    """Return the map from each of ``states`` to ``to``, or to itself."""
    return MappingProxyType({state: state if to is None else to for state in states})


_TRANSACTION = (State.MAIL, State.RCPT_REFUSED, State.RCPT)
_ANY = (State.START, State.READY, *_TRANSACTION, State.CHUNKS)


@frozen(slots=True, kw_only=True, eq=False)
class Transition:
    """One row of the table: an input that has a reply, and the consequences of the reply."""

    name: str
    transitions: StateMap
    """The states in which it is allowed, with the states that a positive reply leads to."""
    refused: StateMap = MappingProxyType({})
    """The states that a negative reply changes, with the states that it leads to."""
    reply: Reply | Callable[[DialogueState], Reply] = _OK
    """The positive reply of :meth:`~triosmtp.smtp.Connection.accept`."""
    effect: Callable[[DialogueState], None] | None = None
    """The change of :class:`DialogueState` that a positive reply makes."""
    enhanced: bool = True
    """Whether its replies have enhanced status codes (RFC 2034, section 4: not the banner, EHLO and HELO)."""
    excuses_pipelined: bool = False
    """Whether commands that were pipelined behind it, and fail because it was refused, are no errors."""
    reply_class: int = 2
    """The first digit of its positive replies."""
    junk: bool = False
    """Whether it does nothing for a message, so that a client needs few of it."""
    refusal_counts: bool = True
    """Whether a refusal by the caller counts as an error.  The caller limits refusals of RCPT itself."""
    continued: State | None = None
    """The state that a 334 leads to, or None if 334 is not a possible reply (RFC 4954)."""


@frozen(slots=True, kw_only=True, eq=False)
class Command(Transition):
    """A row for a command line."""

    parse: Parser
    parse_path: PathParser = no_path
    """It parses the parts of a line with a plain path."""
    before_tls: bool = False
    """Whether it is allowed before TLS if TLS is required (RFC 3207, section 4)."""
    depends_on_previous: bool = False
    """Whether a refused MAIL or RCPT before it can make it out of sequence."""
    out_of_sequence_replies: Mapping[State, Reply] = field(factory=dict)
    """The replies in states in which it is not allowed, if they are more specific than "bad sequence"."""

    def out_of_sequence(self, state: State, dialogue: DialogueState) -> CommandError:
        """Return the error of this command in ``state``, in which it is not allowed."""
        reply = self.out_of_sequence_replies.get(state, _BAD_SEQUENCE)
        counts = not (
            self.depends_on_previous and dialogue.pipelined_after_refusal and dialogue.errors.count_pipelined()
        )
        return CommandError(reply, f"{self.name} in state {state.name}", counts=counts)


def _greet_esmtp(dialogue: DialogueState) -> None:
    dialogue.esmtp = True
    dialogue.pipelined_after_refusal = False


def _greet_smtp(dialogue: DialogueState) -> None:
    dialogue.esmtp = dialogue.pipelined_after_refusal = False


def _end_pipelined_group(dialogue: DialogueState) -> None:
    dialogue.pipelined_after_refusal = False


def _authenticated(dialogue: DialogueState) -> None:
    dialogue.authenticated = True


def _accepted(dialogue: DialogueState) -> None:
    dialogue.errors.reset()


def ehlo_keywords(dialogue: DialogueState) -> tuple[str, ...]:
    """Return the keyword lines of the reply to EHLO (RFC 5321, section 4.1.1.1) that are offered now."""
    settings = dialogue.settings
    offered = ["PIPELINING", "8BITMIME", f"SIZE {settings.max_message_size}", "SMTPUTF8"]
    if settings.enhanced_status_codes:
        offered.append("ENHANCEDSTATUSCODES")
    if settings.extensions:
        offered += _optional(dialogue)
    if dialogue.starttls_offered:
        offered.append("STARTTLS")
    if dialogue.mechanisms:
        offered.append(f"AUTH {' '.join(dialogue.mechanisms)}")
    if settings.added_capabilities or settings.removed_capabilities:
        changed = settings.removed_capabilities.union(
            line.partition(" ")[0].upper() for line in settings.added_capabilities
        )
        offered = [line for line in offered if line.partition(" ")[0] not in changed]
        offered += settings.added_capabilities
    return tuple(offered)


def _optional(dialogue: DialogueState) -> Iterator[str]:
    settings = dialogue.settings
    for keyword in _OPTIONAL:
        if keyword == "LIMITS":
            limits = [
                f"{name}={limit}"
                for name, limit in (("MAILMAX", settings.max_mails), ("RCPTMAX", settings.max_recipients))
                if limit
            ]
            if limits and dialogue.offers(keyword):
                yield f"LIMITS {' '.join(limits)}"
        elif keyword == "FUTURERELEASE" and dialogue.offers(keyword):
            yield f"FUTURERELEASE {settings.max_hold} {_END_OF_TIME}"
        elif keyword == "BINARYMIME" and not dialogue.offers("CHUNKING"):
            continue  # it needs BDAT (RFC 3030, section 3)
        elif dialogue.offers(keyword):
            yield keyword
    yield from (line for keyword, line in TRUSTED_KEYWORDS if dialogue.offers(keyword))


_OPTIONAL = ("CHUNKING", "BINARYMIME", "DSN", "LIMITS", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE")
_END_OF_TIME = "9999-12-31T23:59:59Z"  # RFC 4865, section 3, requires a date; the limit of HOLDFOR is the effective one


def _banner(dialogue: DialogueState) -> Reply:
    return Reply(220, f"{dialogue.settings.hostname} ESMTP")


def _ehlo_reply(dialogue: DialogueState) -> Reply:
    return Reply(250, (dialogue.settings.hostname, *ehlo_keywords(dialogue)))


def _helo_reply(dialogue: DialogueState) -> Reply:
    return Reply(250, dialogue.settings.hostname)


def _help_reply(dialogue: DialogueState) -> Reply:
    absent = {b"STARTTLS"} if not dialogue.starttls_offered else set()
    absent |= {b"AUTH"} if not dialogue.mechanisms else set()
    absent |= {b"BDAT"} if not dialogue.offers("CHUNKING") else set()
    verbs = [verb.decode() for verb in COMMANDS if verb not in absent]
    return Reply(214, f"Commands: {' '.join(verbs)}", "2.0.0")


def _table(*rows: Command) -> Mapping[bytes, Command]:
    return MappingProxyType({row.name.encode(): row for row in rows})


COMMANDS: Final[Mapping[bytes, Command]] = _table(
    Command(
        name="EHLO",
        transitions=_from(*_ANY, to=State.READY),
        parse=parse_ehlo,
        reply=_ehlo_reply,
        before_tls=True,
        effect=_greet_esmtp,
        enhanced=False,
        junk=True,
    ),
    Command(
        name="HELO",
        transitions=_from(*_ANY, to=State.READY),
        parse=parse_helo,
        reply=_helo_reply,
        before_tls=True,
        effect=_greet_smtp,
        enhanced=False,
        junk=True,
    ),
    Command(
        name="STARTTLS",
        transitions=_from(*_ANY, to=State.SWITCHING),
        parse=parse_starttls,
        reply=Reply(220, "Ready to start TLS", "2.0.0"),
        before_tls=True,
    ),
    Command(
        name="AUTH",
        transitions=_from(State.READY),
        parse=parse_auth,
        reply=Reply(235, "Authentication successful", "2.7.0"),
        continued=State.AUTH,
        effect=_authenticated,
        junk=True,
        out_of_sequence_replies={State.START: _HELLO_FIRST},
    ),
    Command(
        name="MAIL",
        transitions=_from(State.READY, to=State.MAIL),
        parse=parse_mail,
        parse_path=parse_plain_mail,
        reply=Reply(250, "Sender ok", "2.1.0"),
        effect=_end_pipelined_group,
        excuses_pipelined=True,
        out_of_sequence_replies={
            State.START: _HELLO_FIRST,
            **dict.fromkeys((*_TRANSACTION, State.CHUNKS), Reply(503, "Nested MAIL command", "5.5.1")),
        },
    ),
    Command(
        name="RCPT",
        transitions=_from(*_TRANSACTION, to=State.RCPT),
        refused=_from(State.MAIL, to=State.RCPT_REFUSED),
        parse=parse_rcpt,
        parse_path=parse_plain_rcpt,
        reply=Reply(250, "Recipient ok", "2.1.5"),
        excuses_pipelined=True,
        depends_on_previous=True,
        refusal_counts=False,
        out_of_sequence_replies={State.START: _HELLO_FIRST, State.READY: _MAIL_FIRST},
    ),
    Command(
        name="DATA",
        transitions=_from(State.RCPT, to=State.BODY),
        parse=parse_data,
        reply=Reply(354, "End data with <CR><LF>.<CR><LF>"),
        depends_on_previous=True,
        out_of_sequence_replies={
            State.START: _HELLO_FIRST,
            State.READY: _MAIL_FIRST,
            State.MAIL: Reply(503, "Need RCPT command first", "5.5.1"),
            State.RCPT_REFUSED: Reply(554, "No valid recipients", "5.5.1"),
        },
        reply_class=3,
    ),
    Command(
        name="BDAT",
        transitions=_from(State.RCPT, State.CHUNKS, to=State.CHUNK),
        parse=parse_bdat,
        depends_on_previous=True,
        out_of_sequence_replies={
            State.START: _HELLO_FIRST,
            State.READY: _MAIL_FIRST,
            State.MAIL: Reply(503, "Need RCPT command first", "5.5.1"),
            State.RCPT_REFUSED: Reply(554, "No valid recipients", "5.5.1"),
        },
    ),
    Command(
        name="RSET",
        transitions=MappingProxyType({**_from(*_ANY, to=State.READY), State.START: State.START}),
        parse=without_argument(Reset()),
        effect=_end_pipelined_group,
        junk=True,
    ),
    Command(
        name="NOOP",
        transitions=_from(*_ANY),
        parse=lambda _line, _argument, _dialogue: Noop(),
        before_tls=True,
        junk=True,
    ),
    Command(
        name="VRFY",
        transitions=_from(*_ANY),
        parse=parse_vrfy,
        reply=Reply(252, "Cannot verify, but will take mail and try", "2.1.5"),
        junk=True,
    ),
    Command(
        name="HELP",
        transitions=_from(*_ANY),
        parse=parse_help,
        reply=_help_reply,
        junk=True,
    ),
    Command(
        name="QUIT",
        transitions=_from(State.REFUSED, *_ANY, to=State.CLOSED),
        parse=without_argument(Quit()),
        reply=Reply(221, "Bye", "2.0.0"),
        before_tls=True,
    ),
)
"""Every implemented command by its verb in upper case."""

_IN_TRANSACTION = dict.fromkeys((*_TRANSACTION, State.CHUNKS), Reply(503, "A mail transaction is in progress", "5.5.1"))

TRUSTED_COMMANDS: Final[Mapping[bytes, Command]] = _table(
    Command(
        name="XCLIENT",
        transitions=_from(State.START, State.READY),
        parse=parse_xclient,
        junk=True,
        out_of_sequence_replies=_IN_TRANSACTION,
    ),
    Command(
        name="XREMOTEIP",
        transitions=_from(State.START, State.READY),
        parse=parse_xremoteip,
        junk=True,
        out_of_sequence_replies=_IN_TRANSACTION,
    ),
    Command(name="XDUMPCONTEXT", transitions=_from(*_ANY), parse=parse_xdumpcontext, enhanced=False, junk=True),
    Command(name="XSETCONTEXT", transitions=_from(*_ANY), parse=parse_xsetcontext, junk=True),
)
"""The commands of trusted peers."""


def trusted_command(verb: bytes, settings: ConnectionSettings) -> Command | None:
    """Return the command of trusted peers with this verb if the settings offer it, else None."""
    command = TRUSTED_COMMANDS.get(verb)
    return command if command is not None and command.name in settings.extensions else None


IN_ORDER: Final[tuple[Mapping[bytes, Command], ...]] = tuple(
    {
        verb: command
        for verb, command in COMMANDS.items()
        if state in command.transitions and verb != b"BDAT"  # octets follow it, so that its line is read strictly
    }
    for state in State
)
"""For each state the commands that are in sequence, if there are no other conditions."""

NOT_IMPLEMENTED: Final = frozenset({b"ETRN", b"EXPN", b"SAML", b"SEND", b"SOML", b"TURN"})
"""Commands that are known but not implemented: 502 instead of 500 (RFC 5321, section 4.2.4)."""


BANNER: Final = Transition(
    name="(banner)",
    transitions=_from(State.CONNECTED, to=State.READY),
    refused=_from(State.CONNECTED, to=State.REFUSED),
    reply=_banner,
    enhanced=False,
    refusal_counts=False,
)
"""The banner."""
BANNER_HELLO_REQUIRED: Final = evolve(BANNER, transitions=_from(State.CONNECTED, to=State.START))
"""The banner if MAIL requires EHLO or HELO before it."""
PEER_CHANGED: Final = Transition(
    name="(peer changed)",
    transitions=_from(State.START, State.READY),
    refused=_from(State.START, State.READY, to=State.REFUSED),
)
"""The reply about a client that a trusted peer announced.  A refusal is like one at the banner."""
RESPONSE: Final = Transition(
    name="(response)",
    transitions=_from(State.AUTH, to=State.READY),
    refused=_from(State.AUTH, to=State.READY),
    reply=Reply(235, "Authentication successful", "2.7.0"),
    continued=State.AUTH,
    effect=_authenticated,
)
"""The response to a 334."""
END_OF_BODY: Final = Transition(
    name="(end of body)",
    transitions=_from(State.BODY, State.CHUNK, to=State.READY),
    refused=_from(State.BODY, State.CHUNK, to=State.READY),
    reply=Reply(250, "Message accepted", "2.6.0"),
    effect=_accepted,
)
"""CRLF.CRLF, or the last octet of BDAT LAST.  Every reply ends the transaction (RFC 5321, section 4.1.1.4)."""
END_OF_CHUNK: Final = Transition(
    name="(end of chunk)",
    transitions=_from(State.CHUNK, to=State.CHUNKS),
    refused=_from(State.CHUNK, to=State.READY),
    reply=Reply(250, "Octets received", "2.0.0"),
    excuses_pipelined=True,
)
"""The last octet of a BDAT without LAST."""
HANDSHAKE: Final = Transition(name="(handshake)", transitions=_from(State.SWITCHING, to=State.START))
"""The end of the TLS handshake.  It has no reply; a refusal by policy is the reply to the next command."""
BAD_COMMAND: Final = Transition(name="(bad command)", transitions=MappingProxyType({}))
"""A line that is not a known command.  Its replies are negative and keep the state."""
FATAL: Final = Transition(
    name="(fatal error)", transitions=MappingProxyType({}), refused=_from(*State, to=State.CLOSED)
)
"""An error that ends the connection."""
