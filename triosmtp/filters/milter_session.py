"""The dialogue with a milter about one SMTP session, without input or output: steps out, checked answers in.

Each step is sent with its macros, and is over with a verdict.  Only at the end of a message do changes come before it.
:data:`STEPS` is the table of the steps.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from attrs import frozen

from triosmtp.filters.milter_codec import (
    Action,
    AddHeader,
    AddRecipient,
    Answer,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    FrameReader,
    InsertHeader,
    MilterError,
    NewBody,
    Options,
    Progress,
    Protocol,
    Quarantine,
    Verdict,
    encode_frame,
    encode_macros,
    encode_options,
    parse_answer,
    parse_options,
)

__all__ = ["MAX_ANSWERS", "STEPS", "USUAL_MACROS", "MilterSession", "Step"]

MAX_ANSWERS: Final = 20_000
"""Frames in the answer to one step."""

_CONNECTION: Final = frozenset({"continue", "accept", "reject", "tempfail", "reply", "shutdown", "conn_fail"})
_MESSAGE: Final = _CONNECTION | {"discard"}

USUAL_MACROS: Final = (
    ("j", "{daemon_name}", "{daemon_addr}", "v", "_", "{daemon_port}", "{client_addr}", "{client_name}",
     "{client_port}", "{client_ptr}", "{client_resolve}"),
    ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}", "{verify}"),
    ("i", "{auth_type}", "{auth_authen}", "{auth_author}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    ("i",),
    ("i",),
    ("i",),
)  # fmt: skip
"""The macros of each stage: those of Postfix 3.7 in its order, then those that it does not send unless asked."""


@frozen(slots=True)
class _Rule:
    code: bytes
    unwanted: Protocol
    silent: Protocol
    """The flags of a milter that does not want the step, and of one that does not answer it."""
    stage: int | None
    """The stage of its macros (see :class:`Options`); None has no macros."""
    verdicts: frozenset[str]
    version: int = 2
    """The first version of the protocol that has the step."""


class Step(Enum):
    """The steps in their order."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    HEADER = "header"
    END_OF_HEADER = "end of header"
    BODY = "body"
    END_OF_MESSAGE = "end of message"
    UNKNOWN = "unknown"


STEPS: Final = {
    Step.CONNECT: _Rule(b"C", Protocol.NOCONNECT, Protocol.NR_CONN, 0, _CONNECTION),
    Step.HELO: _Rule(b"H", Protocol.NOHELO, Protocol.NR_HELO, 1, _CONNECTION),
    Step.MAIL: _Rule(b"M", Protocol.NOMAIL, Protocol.NR_MAIL, 2, _MESSAGE),
    Step.RCPT: _Rule(b"R", Protocol.NORCPT, Protocol.NR_RCPT, 3, _MESSAGE),
    Step.DATA: _Rule(b"T", Protocol.NODATA, Protocol.NR_DATA, 4, _MESSAGE, version=4),
    Step.HEADER: _Rule(b"L", Protocol.NOHDRS, Protocol.NR_HDR, 6, _MESSAGE),
    Step.END_OF_HEADER: _Rule(b"N", Protocol.NOEOH, Protocol.NR_EOH, 6, _MESSAGE),
    Step.BODY: _Rule(b"B", Protocol.NOBODY, Protocol.NR_BODY, 5, _MESSAGE | {"skip"}),
    Step.END_OF_MESSAGE: _Rule(b"E", Protocol(0), Protocol(0), 5, _MESSAGE),
    Step.UNKNOWN: _Rule(b"U", Protocol.NOUNKNOWN, Protocol.NR_UNKN, None, _CONNECTION, version=3),
}

_NEEDED: Final[dict[type, Action]] = {
    AddHeader: Action.ADDHDRS,
    InsertHeader: Action.ADDHDRS,
    ChangeHeader: Action.CHGHDRS,
    NewBody: Action.CHGBODY,
    ChangeSender: Action.CHGFROM,
    DeleteRecipient: Action.DELRCPT,
    Quarantine: Action.QUARANTINE,
}


class MilterSession:
    """The dialogue with one milter.  It begins with :meth:`negotiate`."""

    def __init__(self) -> None:
        self.options: Options | None = None
        """None until the milter has negotiated."""
        self._reader = FrameReader()
        self._step: Step | None = None  # the one that waits for its verdict
        self._answers = 0

    def negotiate(self) -> bytes:
        """Return what begins the dialogue."""
        return encode_options()

    def wants(self, step: Step) -> bool:
        """Return whether the milter wants the step."""
        assert self.options is not None, "it has negotiated"
        rule = STEPS[step]
        return not rule.unwanted & self.options.protocol and self.options.version >= rule.version

    @property
    def keeps_leading_space(self) -> bool:
        """Whether values of header fields have their first space, in both directions."""
        return self.options is not None and bool(self.options.protocol & Protocol.HDR_LEADSPC)

    @property
    def wants_refused_recipients(self) -> bool:
        """Whether the milter wants recipients that are refused."""
        return self.options is not None and bool(self.options.protocol & Protocol.RCPT_REJ)

    @property
    def awaits(self) -> bool:
        """Whether a verdict is due."""
        return self._step is not None

    def begin(self, step: Step, data: bytes, macro: Callable[[str], str | None]) -> bytes:
        """Return the octets of a step that the milter wants; ``macro`` returns the value of a macro, if it has one."""
        assert self.options is not None, "it has negotiated"
        assert self._step is None, "the step before is over"
        rule = STEPS[step]
        macros: list[tuple[str, str]] = []
        if rule.stage is not None:
            names = self.options.symbols.get(rule.stage, USUAL_MACROS[rule.stage])
            macros = [(name, value) for name in names if (value := macro(name)) is not None]
        if not rule.silent & self.options.protocol:
            self._step, self._answers = step, 0
        return encode_macros(rule.code, macros) + encode_frame(rule.code, data)

    def abort(self) -> bytes:
        """Return what ends a message before its time."""
        self._step = None
        return encode_frame(b"A")

    def quit(self, *, another: bool = False) -> bytes:
        """Return what ends the dialogue; ``another`` is whether one about another session follows."""
        return encode_frame(b"K" if another else b"Q")

    def receive_data(self, data: bytes) -> list[Answer]:
        """Take octets; return the answers in them.  The last one is a verdict if the step is over.

        The answer to the negotiation is none of them, but :attr:`options` is set then.

        :raises MilterError: if the milter may not say this, or not now.
        """
        self._reader.receive_data(data)
        found: list[Answer] = []
        while (frame := self._reader.next_frame()) is not None:
            if self.options is None:
                if frame[0] != b"O":
                    raise MilterError(f"{frame[0]!r} in place of the negotiation")
                self.options = parse_options(frame[1])
                continue
            found.append(self._checked(parse_answer(*frame)))
        if self._step is None and self.options is not None and self._reader:
            raise MilterError("octets behind the answer")
        return found

    def _checked(self, answer: Answer) -> Answer:
        step, options = self._step, self.options
        assert options is not None, "it has negotiated"
        if step is None:
            raise MilterError("an answer without a question")
        self._answers += 1
        if self._answers > MAX_ANSWERS:
            raise MilterError(f"more than {MAX_ANSWERS} frames in one answer")
        if isinstance(answer, Progress):
            return answer
        if isinstance(answer, Verdict):
            if answer.word not in STEPS[step].verdicts or (
                answer.word == "skip" and not options.protocol & Protocol.SKIP
            ):
                raise MilterError(f"{answer.word} at the step {step.value}")
            self._step = None
            return answer
        if step is not Step.END_OF_MESSAGE:
            raise MilterError(f"{type(answer).__name__} at the step {step.value}")
        if isinstance(answer, AddRecipient):
            needed = Action.ADDRCPT_PAR if answer.extended else Action.ADDRCPT
        else:
            needed = _NEEDED[type(answer)]
        if not needed & options.actions:
            raise MilterError(f"{type(answer).__name__}, but it has not negotiated {needed.name}")
        return answer
