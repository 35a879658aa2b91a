"""The table of the protocol: what may be said when, what is asked of it, and what follows.

**The theory.**  The server's half of an SMTP dialogue is one small machine.  Two facts make it a table:

1. *A command by itself changes nothing.*  It is a wish; what it meant is settled by the reply to it (RFC 5321, section
   4.1.4: a refused EHLO or MAIL leaves everything as it was).  So a state is left only when a reply is sent, and the
   reply's first digit, with the command's row, says where to.  BDAT alone is different: octets follow it whatever its
   reply will be, so it enters CHUNK at once, and the reply that comes behind them leads on.
2. *At any moment at most one reply is owed.*  Commands that arrive behind the one that waits stay in the buffer,
   unread, not even parsed: whether ``RCPT`` is in sequence depends on how ``MAIL`` was answered.  PIPELINING (RFC 2920)
   comes of itself from that, and so does an exact switch to TLS: nothing behind STARTTLS has been looked at.

So a :class:`Row` has *moves*: the states in which the command is allowed, each with the state that a positive reply
leads to; what is not a key is out of sequence, 503.  It has *refused*: where a negative reply leads; a state that is
not a key is kept.  Five rows are no commands but are answered just the same: the banner, a response of AUTH, the end of
a chunk, the end of the body, and the end of the TLS handshake.  Beside all rows stand the replies that end a connection
whatever the state: 221 and 421.

The states, and the way through them::

    CONNECTED  the banner is owed              (banner) 220 -> START or READY       4yz, 5yz -> REFUSED
    REFUSED    the banner was a refusal        QUIT and nothing else (RFC 5321, section 3.1)
    START      a hello is demanded             EHLO, HELO -> READY
    READY      no transaction                  MAIL -> MAIL
    MAIL       a sender, no recipient          RCPT -> RCPT                         refused -> DECLINED
    DECLINED   as MAIL, after a refused RCPT   RCPT -> RCPT                         DATA is 554, not 503
    RCPT       a recipient or more             DATA 354 -> BODY
    BODY       the body arrives                (end of body) -> READY, whatever the reply
    CHUNK      the octets of a BDAT arrive     (end of chunk) -> CHUNKS                    refused -> READY
                                               (end of body) -> READY, whatever the reply
    AUTH       an answer to 334 is due         (response) 235 -> READY, 334 -> AUTH         refused -> READY
    CHUNKS     between two chunks              BDAT -> CHUNK                               RSET ends it all
    SWITCHING  220 to STARTTLS was sent        (handshake) -> START, all forgotten (RFC 3207, section 4.2)
    CLOSED     nothing more

A trusted peer's XCLIENT leads back to CONNECTED (:meth:`~triosmtp.smtp.Connection.renew`): its reply is a banner.

What else the dialogue has established, and a later command depends on, is in
:class:`~triosmtp.smtp.argument.Facts`.  States and facts are changed when a reply is sent or a handshake is done, by
these rows, and nowhere else.

A command that cannot be taken is a :class:`~triosmtp.smtp.argument.CommandError`: the reply, and the reason for the
log.  It *counts* towards the error budget, and so does every reply by which somebody refuses a command that was in
order: no dialogue goes on for ever without a message.  Only what a well-behaved client runs into is excused: with
PIPELINING it has sent ``RCPT`` and ``DATA`` before it learns that ``MAIL`` was refused.  So an excuse ends with the
octets that had been received when the refusal was written, and there are :data:`~triosmtp.smtp.budget.MAX_EXCUSED`.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from attrs import evolve, field, frozen

from triosmtp.smtp.argument import (
    Parser,
    parse_bdat,
    parse_data,
    parse_ehlo,
    parse_helo,
    parse_help,
    parse_mail,
    parse_rcpt,
    parse_starttls,
    parse_vrfy,
    without_argument,
)
from triosmtp.smtp.authentication import parse_auth
from triosmtp.smtp.event import Noop, Quit, Reset
from triosmtp.smtp.fact import CommandError, Facts
from triosmtp.smtp.reply import Reply
from triosmtp.smtp.rules import Rules
from triosmtp.smtp.trusted import (
    KEYWORDS,
    parse_xclient,
    parse_xdumpcontext,
    parse_xremoteip,
    parse_xsetcontext,
)

__all__ = [
    "ANNOUNCED", "BANNER", "BANNER_HELLO_DEMANDED", "COMMANDS", "END_OF_BODY", "END_OF_CHUNK", "HANDSHAKE",
    "HARD_ERROR", "IN_ORDER", "MISTAKE", "NOT_IMPLEMENTED", "RESPONSE", "TRUSTED_COMMANDS", "Command", "Row", "State",
    "extensions", "trusted_command",
]  # fmt: skip


class State(IntEnum):
    """Where the dialogue stands.  Up to READY there is no transaction; from BODY on no command is read."""

    CONNECTED = 0
    REFUSED = 1
    START = 2
    READY = 3
    MAIL = 4
    DECLINED = 5
    RCPT = 6
    CHUNKS = 7
    AUTH = 8
    BODY = 9
    CHUNK = 10
    SWITCHING = 11
    CLOSED = 12


Moves = Mapping[State, State]

_OK = Reply(250, "Ok", "2.0.0")
_BAD_SEQUENCE = Reply(503, "Bad sequence of commands", "5.5.1")
_HELLO_FIRST = Reply(503, "Send EHLO first", "5.5.1")
_MAIL_FIRST = Reply(503, "Need MAIL command first", "5.5.1")


def _moves(*states: State, to: State | None = None) -> Moves:
    """Give the moves from each of ``states`` to ``to``, or to itself."""
    return MappingProxyType({state: state if to is None else to for state in states})


_TRANSACTION = (State.MAIL, State.DECLINED, State.RCPT)
_ANY = (State.START, State.READY, *_TRANSACTION, State.CHUNKS)


@frozen(slots=True, kw_only=True, eq=False)
class Row:
    """One row of the table: something that is answered, and what follows from the answer."""

    name: str
    moves: Moves
    """The states in which it may happen, each with the one that a positive reply leads to."""
    refused: Moves = MappingProxyType({})
    """The states that a negative reply leads away from, each with where to."""
    reply: Reply | Callable[[Facts], Reply] = _OK
    """The positive reply that is given where nobody has another."""
    effect: Callable[[Facts], None] | None = None
    """What a positive reply establishes or ends, beside the state."""
    enhanced: bool = True
    """Whether its replies have enhanced status codes (RFC 2034, section 4: not the banner's, not a hello's)."""
    excuses: bool = False
    """Whether its refusal excuses what was pipelined behind it."""
    reply_class: int = 2
    """The first digit of its positive replies."""
    junk: bool = False
    """Whether it does nothing for a message, so that no client needs many of it."""
    refusal_counts: bool = True
    """Whether it counts as an error if the driver refuses it.  How often it refuses RCPT, the driver bounds itself."""
    continued: State | None = None
    """The state that a 334 leads to, where one may be given (RFC 4954)."""


@frozen(slots=True, kw_only=True, eq=False)
class Command(Row):
    """A row that begins with a line of the client's."""

    parse: Parser
    before_tls: bool = False
    """Whether it may come before TLS where TLS is required (RFC 3207, section 4)."""
    excusable: bool = False
    """Whether a refused MAIL or RCPT before it can be why it is out of sequence."""
    misplaced: Mapping[State, Reply] = field(factory=dict)
    """What is said in states that it is not allowed in, where it is more than that the sequence is bad."""

    def out_of_sequence(self, state: State, facts: Facts) -> CommandError:
        """Give the error that this command came in ``state``, which is not one of its moves."""
        reply = self.misplaced.get(state, _BAD_SEQUENCE)
        counts = not (self.excusable and facts.excused and facts.budget.excuse())
        return CommandError(reply, f"{self.name} in state {state.name}", counts=counts)


def _greet_esmtp(facts: Facts) -> None:
    facts.esmtp = True
    facts.excused = False


def _greet_smtp(facts: Facts) -> None:
    facts.esmtp = facts.excused = False


def _begin_anew(facts: Facts) -> None:
    facts.excused = False


def _authenticated(facts: Facts) -> None:
    facts.authenticated = True


def _accepted(facts: Facts) -> None:
    facts.budget.renew()


def extensions(facts: Facts) -> tuple[str, ...]:
    """Give the keyword lines of the reply to EHLO (RFC 5321, section 4.1.1.1), as they are offered now."""
    rules = facts.rules
    offered = ["PIPELINING", "8BITMIME", f"SIZE {rules.max_message_size}", "SMTPUTF8"]
    if rules.enhanced_status_codes:
        offered.append("ENHANCEDSTATUSCODES")
    if rules.extensions:
        offered += _optional(facts)
    if facts.starttls_offered:
        offered.append("STARTTLS")
    if facts.mechanisms:
        offered.append(f"AUTH {' '.join(facts.mechanisms)}")
    return tuple(offered)


def _optional(facts: Facts) -> Iterator[str]:
    rules = facts.rules
    for keyword in _OPTIONAL:
        if keyword == "LIMITS":
            limits = [
                f"{name}={limit}"
                for name, limit in (("MAILMAX", rules.max_mails), ("RCPTMAX", rules.max_recipients))
                if limit
            ]
            if limits and facts.offers(keyword):
                yield f"LIMITS {' '.join(limits)}"
        elif keyword == "FUTURERELEASE" and facts.offers(keyword):
            yield f"FUTURERELEASE {rules.max_hold} {_END_OF_TIME}"
        elif keyword == "BINARYMIME" and not facts.offers("CHUNKING"):
            continue  # nothing could bring such a body (RFC 3030, section 3)
        elif facts.offers(keyword):
            yield keyword
    yield from (line for keyword, line in KEYWORDS if facts.offers(keyword))


_OPTIONAL = ("CHUNKING", "BINARYMIME", "DSN", "LIMITS", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE")
_END_OF_TIME = "9999-12-31T23:59:59Z"  # RFC 4865, section 3, demands a date; HOLDFOR's limit is the one that counts


def _banner(facts: Facts) -> Reply:
    return Reply(220, f"{facts.rules.hostname} ESMTP")


def _ehlo_reply(facts: Facts) -> Reply:
    return Reply(250, (facts.rules.hostname, *extensions(facts)))


def _helo_reply(facts: Facts) -> Reply:
    return Reply(250, facts.rules.hostname)


def _help_reply(facts: Facts) -> Reply:
    absent = {b"STARTTLS"} if not facts.starttls_offered else set()
    absent |= {b"AUTH"} if not facts.mechanisms else set()
    absent |= {b"BDAT"} if not facts.offers("CHUNKING") else set()
    verbs = [verb.decode() for verb in COMMANDS if verb not in absent]
    return Reply(214, f"Commands: {' '.join(verbs)}", "2.0.0")


def _table(*rows: Command) -> Mapping[bytes, Command]:
    return MappingProxyType({row.name.encode(): row for row in rows})


COMMANDS: Final[Mapping[bytes, Command]] = _table(
    Command(
        name="EHLO",
        moves=_moves(*_ANY, to=State.READY),
        parse=parse_ehlo,
        reply=_ehlo_reply,
        before_tls=True,
        effect=_greet_esmtp,
        enhanced=False,
        junk=True,
    ),
    Command(
        name="HELO",
        moves=_moves(*_ANY, to=State.READY),
        parse=parse_helo,
        reply=_helo_reply,
        before_tls=True,
        effect=_greet_smtp,
        enhanced=False,
        junk=True,
    ),
    Command(
        name="STARTTLS",
        moves=_moves(*_ANY, to=State.SWITCHING),
        parse=parse_starttls,
        reply=Reply(220, "Ready to start TLS", "2.0.0"),
        before_tls=True,
    ),
    Command(
        name="AUTH",
        moves=_moves(State.READY),
        parse=parse_auth,
        reply=Reply(235, "Authentication successful", "2.7.0"),
        continued=State.AUTH,
        effect=_authenticated,
        junk=True,
        misplaced={State.START: _HELLO_FIRST},
    ),
    Command(
        name="MAIL",
        moves=_moves(State.READY, to=State.MAIL),
        parse=parse_mail,
        reply=Reply(250, "Sender ok", "2.1.0"),
        effect=_begin_anew,
        excuses=True,
        misplaced={
            State.START: _HELLO_FIRST,
            **dict.fromkeys((*_TRANSACTION, State.CHUNKS), Reply(503, "Nested MAIL command", "5.5.1")),
        },
    ),
    Command(
        name="RCPT",
        moves=_moves(*_TRANSACTION, to=State.RCPT),
        refused=_moves(State.MAIL, to=State.DECLINED),
        parse=parse_rcpt,
        reply=Reply(250, "Recipient ok", "2.1.5"),
        excuses=True,
        excusable=True,
        refusal_counts=False,
        misplaced={State.START: _HELLO_FIRST, State.READY: _MAIL_FIRST},
    ),
    Command(
        name="DATA",
        moves=_moves(State.RCPT, to=State.BODY),
        parse=parse_data,
        reply=Reply(354, "End data with <CR><LF>.<CR><LF>"),
        excusable=True,
        misplaced={
            State.START: _HELLO_FIRST,
            State.READY: _MAIL_FIRST,
            State.MAIL: Reply(503, "Need RCPT command first", "5.5.1"),
            State.DECLINED: Reply(554, "No valid recipients", "5.5.1"),
        },
        reply_class=3,
    ),
    Command(
        name="BDAT",
        moves=_moves(State.RCPT, State.CHUNKS, to=State.CHUNK),
        parse=parse_bdat,
        excusable=True,
        misplaced={
            State.START: _HELLO_FIRST,
            State.READY: _MAIL_FIRST,
            State.MAIL: Reply(503, "Need RCPT command first", "5.5.1"),
            State.DECLINED: Reply(554, "No valid recipients", "5.5.1"),
        },
    ),
    Command(
        name="RSET",
        moves=MappingProxyType({**_moves(*_ANY, to=State.READY), State.START: State.START}),
        parse=without_argument(Reset()),
        effect=_begin_anew,
        junk=True,
    ),
    Command(
        name="NOOP",
        moves=_moves(*_ANY),
        parse=lambda _line, _argument, _facts: Noop(),
        before_tls=True,
        junk=True,
    ),
    Command(
        name="VRFY",
        moves=_moves(*_ANY),
        parse=parse_vrfy,
        reply=Reply(252, "Cannot verify, but will take mail and try", "2.1.5"),
        junk=True,
    ),
    Command(
        name="HELP",
        moves=_moves(*_ANY),
        parse=parse_help,
        reply=_help_reply,
        junk=True,
    ),
    Command(
        name="QUIT",
        moves=_moves(State.REFUSED, *_ANY, to=State.CLOSED),
        parse=without_argument(Quit()),
        reply=Reply(221, "Bye", "2.0.0"),
        before_tls=True,
    ),
)
"""Every command that is implemented, by its verb in upper case."""

_IN_TRANSACTION = dict.fromkeys((*_TRANSACTION, State.CHUNKS), Reply(503, "A mail transaction is in progress", "5.5.1"))

TRUSTED_COMMANDS: Final[Mapping[bytes, Command]] = _table(
    Command(
        name="XCLIENT",
        moves=_moves(State.START, State.READY),
        parse=parse_xclient,
        junk=True,
        misplaced=_IN_TRANSACTION,
    ),
    Command(
        name="XREMOTEIP",
        moves=_moves(State.START, State.READY),
        parse=parse_xremoteip,
        junk=True,
        misplaced=_IN_TRANSACTION,
    ),
    Command(name="XDUMPCONTEXT", moves=_moves(*_ANY), parse=parse_xdumpcontext, enhanced=False, junk=True),
    Command(name="XSETCONTEXT", moves=_moves(*_ANY), parse=parse_xsetcontext, junk=True),
)
"""Those of trusted peers."""


def trusted_command(verb: bytes, rules: Rules) -> Command | None:
    """Give the command of trusted peers that ``verb`` is, where the rules list it among the extensions."""
    command = TRUSTED_COMMANDS.get(verb)
    return command if command is not None and command.name in rules.extensions else None


IN_ORDER: Final[tuple[Mapping[bytes, Command], ...]] = tuple(
    {
        verb: command
        for verb, command in COMMANDS.items()
        if state in command.moves and verb != b"BDAT"  # its octets follow, so that its line is read strictly
    }
    for state in State
)
"""For each state the commands that are in order, if no more is to be considered than the state."""

NOT_IMPLEMENTED: Final = frozenset({b"ETRN", b"EXPN", b"SAML", b"SEND", b"SOML", b"TURN"})
"""Verbs that are known to be commands: 502 where an unknown one is 500 (RFC 5321, section 4.2.4)."""


BANNER: Final = Row(
    name="(banner)",
    moves=_moves(State.CONNECTED, to=State.READY),
    refused=_moves(State.CONNECTED, to=State.REFUSED),
    reply=_banner,
    enhanced=False,
    refusal_counts=False,
)
"""The greeting."""
BANNER_HELLO_DEMANDED: Final = evolve(BANNER, moves=_moves(State.CONNECTED, to=State.START))
"""The greeting where MAIL needs a hello before it."""
ANNOUNCED: Final = Row(
    name="(announced)",
    moves=_moves(State.START, State.READY),
    refused=_moves(State.START, State.READY, to=State.REFUSED),
)
"""The answer about a peer that was announced in the middle of a dialogue: it is refused as at the beginning of one."""
RESPONSE: Final = Row(
    name="(response)",
    moves=_moves(State.AUTH, to=State.READY),
    refused=_moves(State.AUTH, to=State.READY),
    reply=Reply(235, "Authentication successful", "2.7.0"),
    continued=State.AUTH,
    effect=_authenticated,
)
"""A line that answers a 334."""
END_OF_BODY: Final = Row(
    name="(end of body)",
    moves=_moves(State.BODY, State.CHUNK, to=State.READY),
    refused=_moves(State.BODY, State.CHUNK, to=State.READY),
    reply=Reply(250, "Message accepted", "2.6.0"),
    effect=_accepted,
)
"""CRLF.CRLF, or the last octet of BDAT LAST: the transaction is over whatever the reply (RFC 5321, 4.1.1.4)."""
END_OF_CHUNK: Final = Row(
    name="(end of chunk)",
    moves=_moves(State.CHUNK, to=State.CHUNKS),
    refused=_moves(State.CHUNK, to=State.READY),
    reply=Reply(250, "Octets received", "2.0.0"),
    excuses=True,
)
"""The last octet of a BDAT that is not the last one."""
HANDSHAKE: Final = Row(name="(handshake)", moves=_moves(State.SWITCHING, to=State.START))
"""The end of the TLS handshake: there is no reply to it, a refusal by policy answers the next command."""
MISTAKE: Final = Row(name="(mistake)", moves=MappingProxyType({}))
"""A line that is no command of ours: its replies are negative, and change nothing."""
HARD_ERROR: Final = Row(name="(hard error)", moves=MappingProxyType({}), refused=_moves(*State, to=State.CLOSED))
"""What the connection does not survive."""
