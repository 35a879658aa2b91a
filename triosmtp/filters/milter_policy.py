"""A milter in the chain: each phase becomes a step of its protocol, and the verdict a decision.

One SMTP session has one connection to the milter.  After a failure there is none, and the fallback holds for the rest
of the message; the next MAIL connects again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from struct import pack
from typing import Final
from weakref import WeakKeyDictionary

import trio
from attrs import frozen

from triosmtp.config import FilterAddress
from triosmtp.errors import Reject
from triosmtp.filters.milter_changes import ContentRules, EnvelopeRules, MilterChanges
from triosmtp.filters.milter_codec import Verdict, strings
from triosmtp.filters.milter_content import FilterHeader, header_of, send_content
from triosmtp.filters.milter_conversation import MilterConversation
from triosmtp.filters.milter_link import CONTINUE, MilterFailureError, MilterLink
from triosmtp.filters.milter_macros import MacroContext, port_of
from triosmtp.filters.milter_session import Step
from triosmtp.message import Message
from triosmtp.message.header_edits import EditError
from triosmtp.message.spool import SpoolError
from triosmtp.policy import DISCARD, Done, Phase, Session
from triosmtp.policy.interface import UnknownCommandPolicy
from triosmtp.policy_service.filter_registry import FilterKey, FilterRegistry, FilterUse
from triosmtp.policy_service.question import Fallback, fallback_reply
from triosmtp.smtp import Address
from triosmtp.variables import DELIVER_TO, TLSInfo

__all__ = ["END_OF_MESSAGE_TIMES", "WHOLE_MESSAGE_TIMES", "MilterPolicy", "MilterSettings"]

_log = logging.getLogger("triosmtp.policy")

END_OF_MESSAGE_TIMES: Final = 10
"""Time for the end of a message, and at most for any other step with signs of progress, in times of Policy_Timeout."""
WHOLE_MESSAGE_TIMES: Final = 60
"""Time for the content of a message with its end, in times of Policy_Timeout."""
_FINAL: Final = frozenset({"continue", "accept"})
_REPLIES: Final[Mapping[str, tuple[int, str, str]]] = {
    "reject": (550, "5.7.1", "Command rejected"),
    "tempfail": (451, "4.7.1", "Service unavailable - try again later"),
    "shutdown": (421, "4.7.0", "Closing the connection"),
}
"""The replies of Postfix to verdicts without a text."""


@frozen(slots=True, kw_only=True)
class MilterSettings:
    """The options of one ``milter:``, or of a ``filter:`` that is one."""

    key: FilterKey
    address: FilterAddress
    timeout: float
    fallbacks: Mapping[Phase, Fallback]
    hostname: str
    """The value of ``j`` and ``{daemon_name}``."""
    envelope: EnvelopeRules
    content: ContentRules
    hold_to: str | None = None
    """The name of the Delivery for quarantined messages."""


class MilterPolicy(UnknownCommandPolicy):
    """Has a milter decide."""

    def __init__(self, settings: MilterSettings, filters: FilterRegistry) -> None:
        self._settings = settings
        self._filters = filters
        self._conversations: WeakKeyDictionary[Session, MilterConversation] = WeakKeyDictionary()

    @property
    def source(self) -> str:
        """``milter:unix:/path``, ``milter:inet:host:port`` or ``filter:NAME``."""
        return self._settings.key.name

    # The phases

    async def validate_connect(self, session: Session) -> Done | None:
        """Begin the conversation.  A trusted peer that announces another client begins another one."""
        conversation = self._conversation(session)
        conversation.start_over()
        return await self._ask("connect", session, conversation, self._open)

    async def validate_ehlo(self, session: Session, domain: str) -> Done | None:
        """Ask about EHLO or HELO."""
        conversation = self._conversation(session)
        conversation.end_message()
        if conversation.accepted or conversation.accepted_hello or conversation.link is None:
            return None
        if conversation.refusal is not None:
            raise self._reject("ehlo", conversation.refusal)

        async def hello(conversation: MilterConversation, session: Session) -> Verdict:
            return await self._hello(conversation, session, domain)

        return await self._ask("ehlo", session, conversation, hello)

    async def judge_unknown_command(self, session: Session, line: bytes) -> None:
        """Ask about a command that the server does not know.  A failure is reported, and the usual reply stays."""
        conversation = self._conversation(session)
        if conversation.accepted or conversation.accepted_hello or conversation.link is None:
            return
        began = trio.current_time()
        try:
            verdict = await self._step(conversation, session, Step.UNKNOWN, strings(line.partition(b" ")[0]))
        except MilterFailureError as error:
            self._fail(conversation, "ehlo", session, began, error)
            return
        if verdict.word in _REPLIES or verdict.word == "reply":
            raise self._reject("ehlo", verdict)

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> Done | None:  # noqa: ARG002
        """Forget what followed from the client's words in plaintext: it greets again."""
        conversation = self._conversation(session)
        conversation.end_message()
        conversation.accepted_hello, conversation.hello = False, ""
        if conversation.refused_hello:
            conversation.refusal, conversation.refused_hello = None, False
        return None

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Ask about MAIL, on a new connection if there is none."""
        conversation = self._conversation(session)
        conversation.begin_message(session, sender, parameters)
        if conversation.accepted or conversation.accepted_hello:
            return None
        return await self._ask("mailfrom", session, conversation, self._mail)

    async def validate_rcptto(
        self, session: Session, recipient: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Ask about RCPT, unless the built-in rules refuse it anyway."""
        conversation = self._conversation(session)

        async def rcpt(conversation: MilterConversation, session: Session) -> Verdict:
            link, refusal = _link_of(conversation), await self._settings.envelope.refusal_of(session, recipient)
            if refusal and not link.session.wants_refused_recipients:
                return CONTINUE
            verdict = await self._rcpt(conversation, session, recipient, parameters, refusal)
            return CONTINUE if refusal else verdict

        return await self._ask_about_message("rcptto", session, conversation, rcpt)

    async def validate_data(self, session: Session) -> Done | None:
        """Ask about DATA."""

        async def data(conversation: MilterConversation, session: Session) -> Verdict:
            return await self._step(conversation, session, Step.DATA, b"")

        return await self._ask_about_message("data", session, self._conversation(session), data)

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        """Ask about the message, and change it as the milter demands."""
        conversation = self._conversation(session)
        changes: MilterChanges | None = None
        header: FilterHeader | None = None

        async def content(conversation: MilterConversation, session: Session) -> Verdict:
            nonlocal changes, header
            link, header = _link_of(conversation), await header_of(session, message)
            changes = MilterChanges(self._settings.content, link.session.keeps_leading_space)
            verdict = await self._content(conversation, session, message, header, changes)
            conversation.in_message = False
            return verdict

        try:
            answer = await self._ask_about_message("data_spool", session, conversation, content)
            conversation.message_over = True
            if header is None or not changes or answer is not None or conversation.failed:
                return answer
            return await self._apply(session, message, header, changes)
        except (EditError, SpoolError) as error:
            raise self._unusable(session, error) from None
        finally:
            if changes is not None:
                changes.close()

    # Steps

    async def _open(self, conversation: MilterConversation, session: Session) -> Verdict:
        """Connect, and tell the milter of the client."""
        settings = self._settings
        refused = await self._filters.admit(settings.key)
        if refused:
            raise MilterFailureError("broken", refused)
        conversation.link = await MilterLink.open(settings.address, settings.timeout)
        self._filters.report(FilterUse(filter=settings.key, session=session.info, kind="opened"))
        verdict = await self._step(conversation, session, Step.CONNECT, _client(session))
        if verdict.word == "accept":
            conversation.accepted = True
            conversation.close()
        elif verdict.word != "continue":
            conversation.refusal = verdict
        return verdict

    async def _hello(self, conversation: MilterConversation, session: Session, domain: str) -> Verdict:
        conversation.hello = domain
        verdict = await self._step(conversation, session, Step.HELO, strings(domain))
        if verdict.word == "accept":
            conversation.accepted_hello = True
        elif verdict.word != "continue":
            conversation.refusal, conversation.refused_hello = verdict, True
        return verdict

    async def _mail(self, conversation: MilterConversation, session: Session) -> Verdict:
        """Send MAIL.  If the milter was started again since the last message, connect once more."""
        assert conversation.sender is not None, "a message was begun"
        data = strings(f"<{conversation.sender.text}>", *_written(conversation.parameters))
        reopened = conversation.link is None
        while True:
            try:
                verdict = await self._greet(conversation, session)
                if conversation.refusal is not None:
                    return conversation.refusal
                if verdict.word != "continue":
                    return verdict
                conversation.in_message = True
                return await self._step(conversation, session, Step.MAIL, data)
            except MilterFailureError as error:
                if reopened or error.kind != "broken":
                    raise
                reopened = True
                conversation.close()
                conversation.in_message = False

    async def _greet(self, conversation: MilterConversation, session: Session) -> Verdict:
        """Send CONNECT and HELO, if the milter does not have them."""
        verdict = CONTINUE
        if conversation.link is None:
            conversation.hello = ""
            verdict = await self._open(conversation, session)
        domain = session.variables.get("ehlo_domain", "")
        if verdict.word != "continue" or conversation.refusal is not None or domain in {"", conversation.hello}:
            return verdict
        return await self._hello(conversation, session, domain)

    async def _rcpt(
        self,
        conversation: MilterConversation,
        session: Session,
        recipient: Address,
        parameters: Mapping[str, str | None],
        refusal: str = "",
    ) -> Verdict:
        conversation.recipients.add(recipient)
        data = strings(f"<{recipient.text}>", *_written(parameters))
        return await self._step(conversation, session, Step.RCPT, data, recipient=recipient, refusal=refusal)

    async def _tell_recipients(self, conversation: MilterConversation, session: Session) -> Verdict:
        """Send RCPT for recipients that an earlier policy accepted alone; a refusal of one has no effect."""
        envelope = session.envelope
        missing = () if envelope is None or conversation.has_all_recipients else tuple(envelope.recipients)
        conversation.has_all_recipients = True
        for each in missing:
            if each.address not in conversation.recipients:
                verdict = await self._rcpt(conversation, session, each.address, each.parameters)
                if verdict.word in {"accept", "discard", "shutdown"}:
                    return verdict
        return CONTINUE

    async def _content(
        self,
        conversation: MilterConversation,
        session: Session,
        message: Message,
        header: FilterHeader,
        changes: MilterChanges,
    ) -> Verdict:
        settings = self._settings
        deadline = trio.current_time() + WHOLE_MESSAGE_TIMES * settings.timeout
        macro = self._macros(conversation, session).macro
        link = _link_of(conversation)
        verdict = await send_content(link, message, header, macro, settings.timeout, deadline)
        if verdict.word != "continue":
            return verdict
        seconds = END_OF_MESSAGE_TIMES * settings.timeout
        return await link.step(Step.END_OF_MESSAGE, b"", macro, seconds, deadline=deadline, on_change=changes.add)

    async def _step(
        self,
        conversation: MilterConversation,
        session: Session,
        step: Step,
        data: bytes,
        *,
        recipient: Address | None = None,
        refusal: str = "",
    ) -> Verdict:
        macros = self._macros(conversation, session, recipient=recipient, refusal=refusal)
        seconds = self._settings.timeout
        deadline = trio.current_time() + END_OF_MESSAGE_TIMES * seconds
        return await _link_of(conversation).step(step, data, macros.macro, seconds, deadline=deadline)

    def _macros(
        self,
        conversation: MilterConversation,
        session: Session,
        *,
        recipient: Address | None = None,
        refusal: str = "",
    ) -> MacroContext:
        settings, message_id = self._settings, ""
        if session.envelope is not None:
            message_id = f"{session.id}-{session.transactions}"
        return MacroContext(
            session, settings.hostname, settings.envelope.is_local, conversation.sender, recipient,
            conversation.parameters.get("AUTH") or "", refusal, message_id,
        )  # fmt: skip

    # Conversations

    def _begin(self, session: Session) -> MilterConversation:
        info, filters, key = session.info, self._filters, self._settings.key

        def closed() -> None:
            filters.report(FilterUse(filter=key, session=info, kind="closed"))

        conversation = self._conversations[session] = MilterConversation(closed)
        session.call_at_end(conversation.close)
        return conversation

    def _conversation(self, session: Session) -> MilterConversation:
        """Return the conversation of a session."""
        return self._conversations.get(session) or self._begin(session)

    # Decisions

    async def _ask_about_message(
        self,
        phase: Phase,
        session: Session,
        conversation: MilterConversation,
        ask: Callable[[MilterConversation, Session], Awaitable[Verdict]],
    ) -> Done | None:
        """Ask about a message, unless the milter wants no more of it, or has failed within it."""
        if conversation.accepted or conversation.accepted_hello:
            return None
        envelope, is_new = session.envelope, not conversation.knows_message(session)
        if is_new and envelope is not None:
            conversation.begin_message(session, envelope.sender, envelope.parameters)
        if conversation.message_over:
            return None
        if not is_new and (conversation.failed or conversation.link is None):
            self._fall_back(phase, "it failed before within this message")
            return None

        async def all_steps(conversation: MilterConversation, session: Session) -> Verdict:
            verdict = await self._mail(conversation, session) if is_new else CONTINUE
            if verdict.word == "continue" and phase != "rcptto":
                verdict = await self._tell_recipients(conversation, session)
            return verdict if verdict.word != "continue" else await ask(conversation, session)

        return await self._ask(phase, session, conversation, all_steps)

    async def _ask(
        self,
        phase: Phase,
        session: Session,
        conversation: MilterConversation,
        ask: Callable[[MilterConversation, Session], Awaitable[Verdict]],
    ) -> Done | None:
        began = trio.current_time()
        try:
            verdict = await ask(conversation, session)
        except MilterFailureError as error:
            self._fail(conversation, phase, session, began, error)
            self._fall_back(phase, str(error))
            return None
        self._report(phase, session, began)
        if verdict.word in _FINAL or verdict.word == "skip":
            conversation.message_over = conversation.message_over or verdict.word == "accept"
            return None
        if verdict.word == "discard":
            conversation.message_over = True
            return DISCARD
        raise self._reject(phase, verdict)

    def _fail(
        self, conversation: MilterConversation, phase: Phase, session: Session, began: float, error: MilterFailureError
    ) -> None:
        self._report(phase, session, began, error)
        conversation.close()
        conversation.failed, conversation.in_message = True, False

    def _report(self, phase: Phase, session: Session, began: float, error: MilterFailureError | None = None) -> None:
        use = FilterUse(
            filter=self._settings.key,
            session=session.info,
            kind="answered" if error is None else error.kind,
            phase=phase,
            seconds=trio.current_time() - began,
            fallback=self._settings.fallbacks[phase],
            failure="" if error is None else str(error),
        )
        self._filters.report(use)

    def _fall_back(self, phase: Phase, failure: str) -> None:
        reply = fallback_reply(phase, self._settings.fallbacks[phase])
        if reply is not None:
            raise Reject(*reply, reason=f"fallback: {failure}", decided_by=self.source)

    def _reject(self, phase: Phase, verdict: Verdict) -> Reject:
        code, enhanced, text = _REPLIES.get(verdict.word, (verdict.code, verdict.enhanced, verdict.text))
        reason = f"{verdict.word} {text}" if verdict.word == "reply" else verdict.word
        if phase == "connect":  # the reply in place of the banner (RFC 5321, section 3.1)
            code = 421 if code < 500 else 554
        text = text or _REPLIES["reject" if code >= 500 else "tempfail"][2]
        return Reject(code, enhanced or None, text, reason=reason, decided_by=self.source)

    async def _apply(
        self, session: Session, message: Message, header: FilterHeader, changes: MilterChanges
    ) -> Done | None:
        hold_to = self._settings.hold_to
        if changes.quarantine is not None and hold_to is None:
            raise self._unavailable(session, f"there is no Hold_To for quarantine: {changes.quarantine}")
        reason = await changes.apply(session, message, header.extra, self._settings.envelope)
        if reason:
            raise self._unavailable(session, f"the changes of the milter are not allowed: {reason}")
        if changes.quarantine is not None and hold_to is not None:
            session.message_variables[DELIVER_TO] = hold_to
            _log.info("session %s: %s quarantines %s: %r", session.id, self.source, message.id, changes.quarantine)
        if message.envelope.recipients:
            return None
        _log.info("session %s: %s removed all recipients of %s", session.id, self.source, message.id)
        return DISCARD

    def _unavailable(self, session: Session, reason: str) -> Reject:
        text = f"{reason}: refused with 451 4.3.5"
        _log.warning("session %s: %s at data_spool: %s", session.id, self.source, text)
        return Reject(451, "4.3.5", "Server configuration error", reason=reason, decided_by=self.source)

    def _unusable(self, session: Session, error: EditError | SpoolError) -> Reject:
        if isinstance(error, EditError):
            text = "The header is too large for the filter"
            return Reject(552, "5.3.4", text, reason=str(error), decided_by=self.source)
        _log.error("session %s: %s: spool write failed, replied 452: %s", session.id, self.source, error)
        return Reject(452, "4.3.1", "Insufficient system storage", reason=str(error), decided_by="spool")


def _link_of(conversation: MilterConversation) -> MilterLink:
    link = conversation.link
    if link is None or link.closed:
        raise MilterFailureError("broken", "the connection is closed")
    return link


def _written(parameters: Mapping[str, str | None]) -> list[str]:
    return [name if value is None else f"{name}={value}" for name, value in parameters.items()]


def _client(session: Session) -> bytes:
    """Return the data of CONNECT: the name of the client, the family, port and address."""
    address, name = session.peer_address, session.client_name
    if address is None:
        return strings(name) + b"U"
    if name == "unknown":
        name = f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
    family = b"6" if address.version == 6 else b"4"
    return strings(name) + family + pack(">H", int(port_of(session.peer) or 0)) + strings(str(address))
