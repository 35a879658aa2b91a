"""A policy service in the chain: a phase becomes a request, and the action its effect."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from triosmtp.errors import Reject
from triosmtp.filters.envelope_changes import BCC, REDIRECT, change_of, defer_change
from triosmtp.filters.policyd_action import Action, parse_action
from triosmtp.filters.policyd_attributes import attributes_of, request_of
from triosmtp.filters.policyd_codec import encode_request
from triosmtp.message import Message
from triosmtp.policy import DISCARD, DONE, Deferral, Done, Phase, Policy, Session
from triosmtp.policy_service.filter_registry import FilterKey, FilterQuestion, FilterRegistry
from triosmtp.policy_service.question import Fallback, fallback_reply
from triosmtp.smtp import Address
from triosmtp.variables import DELIVER_TO

if TYPE_CHECKING:
    from triosmtp.filters.envelope_changes import Judge

__all__ = ["MAX_PREPENDED", "PolicydSettings", "make_policyd_policy"]

_log = logging.getLogger("triosmtp.policy")

MAX_PREPENDED: Final = 64
"""Header fields that policy services prepend to one message."""
_PREPENDED: Final = "filter_prepended"
_UNAVAILABLE: Final = (451, "4.3.5", "Server configuration error")
_CLASSES: Final[Mapping[Phase, tuple[str, str]]] = {
    "connect": ("", "Client host"),
    "ehlo": ("", "Helo command"),
    "mailfrom": ("", "Sender address"),
    "rcptto": ("", "Recipient address"),
    "data": ("DATA", "Data command"),
    "data_spool": ("END-OF-MESSAGE", "End-of-data"),
}
"""The words of Postfix's replies: what was refused, if it is fixed, and its class."""


@frozen(slots=True, kw_only=True)
class PolicydSettings:
    """The options of one ``policyd:`` or ``filter:`` in a Policy."""

    key: FilterKey
    timeout: float
    fallbacks: Mapping[Phase, Fallback]
    hold_to: str | None = None
    """The name of the Delivery for held messages."""


class PolicydPolicy(Policy):
    """Has a policy service decide.  A subclass of :func:`make_policyd_policy` has the methods of its phases."""

    def __init__(self, settings: PolicydSettings, filters: FilterRegistry, judge: "Judge") -> None:
        self._settings = settings
        self._filters = filters
        self._judge = judge

    @property
    def source(self) -> str:
        """``policyd:unix:/path``, ``policyd:inet:host:port`` or ``filter:NAME``."""
        return self._settings.key.name

    async def _ask(self, phase: Phase, session: Session, *arguments: Any) -> Done | Deferral | None:
        settings = self._settings
        question = FilterQuestion(
            filter=settings.key,
            session=session.info,
            phase=phase,
            request=encode_request(attributes_of(request_of(phase, session, *arguments))),
            timeout=settings.timeout,
            fallback=settings.fallbacks[phase],
        )
        answer = await self._filters.ask(question)
        if answer.failure:
            reply = fallback_reply(phase, question.fallback)
            if reply is not None:
                raise Reject(*reply, reason=f"fallback: {answer.failure}", decided_by=self.source)
            return None
        action = parse_action(answer.text)
        if action.word == "DUNNO":
            return None
        return await _EFFECTS[action.word](self, action, phase, session, arguments)

    # Effects

    async def _accept(
        self, _action: Action, _phase: Phase, _session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        return DONE

    async def _discard(
        self, action: Action, phase: Phase, session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        _log.info("session %s: %s discards at %s: %r", session.id, self.source, phase, action.text)
        return DISCARD

    async def _refuse(
        self, action: Action, phase: Phase, session: Session, arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        raise self._reject(action, phase, session, arguments)

    async def _defer_if(
        self, action: Action, phase: Phase, session: Session, arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        reject = self._reject(action, phase, session, arguments)
        return Deferral(if_permit=reject) if action.word == "DEFER_IF_PERMIT" else Deferral(if_reject=reject)

    async def _prepend(
        self, action: Action, phase: Phase, session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        name, colon, value = action.text.partition(":")
        prepended = int(session.message_variables.get(_PREPENDED, "0"))
        if prepended >= MAX_PREPENDED or len(session.headers) >= MAX_PREPENDED:
            self._warn(session, phase, f"PREPEND ignored: at most {MAX_PREPENDED} in one message")
            return None
        try:
            if not colon or not value.strip():
                raise ValueError(f"{action.text!r} is not name: value")
            session.add_header(name.rstrip(), value.strip())
        except ValueError as error:
            self._warn(session, phase, f"PREPEND ignored: {error}")
            return None
        if session.in_transaction:
            session.message_variables.record({_PREPENDED: str(prepended + 1)})
        return None

    async def _change_envelope(
        self, action: Action, phase: Phase, session: Session, arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        key = REDIRECT if action.word == "REDIRECT" else BCC
        if not session.in_transaction:
            raise self._unavailable(session, phase, f"{action.word} needs a message")
        try:
            change = change_of(action.text)
            reason = await self._judge(change)
        except ValueError as error:
            reason = str(error)
        if reason:
            raise self._unavailable(session, phase, f"{action.word} {action.text!r}: {reason}")
        message = arguments[0] if phase == "data_spool" else None
        if not defer_change(session, message, key, change):
            raise self._unavailable(session, phase, f"{action.word}: too many recipients are added")
        _log.info("session %s: %s at %s: %s %s", session.id, self.source, phase, action.word, change)
        return None

    async def _hold(
        self, action: Action, phase: Phase, session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        hold_to = self._settings.hold_to
        if hold_to is None:
            raise self._unavailable(session, phase, "HOLD is not available: there is no Hold_To for held messages")
        if not session.in_transaction:
            raise self._unavailable(session, phase, "HOLD needs a message")
        session.message_variables[DELIVER_TO] = hold_to
        _log.info("session %s: %s holds at %s: %r", session.id, self.source, phase, action.text)
        return None

    async def _log_text(
        self, action: Action, phase: Phase, session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        level = logging.WARNING if action.word == "WARN" else logging.INFO
        _log.log(level, "session %s: %s at %s: %s %r", session.id, self.source, phase, action.word, action.text)
        return None

    async def _refuse_unknown(
        self, action: Action, phase: Phase, session: Session, _arguments: tuple[Any, ...]
    ) -> Done | Deferral | None:
        raise self._unavailable(session, phase, f"the action {action.text[:200]!r} is not available")

    # Replies

    def _reject(self, action: Action, phase: Phase, session: Session, arguments: tuple[Any, ...]) -> Reject:
        """Return the refusal, in the words of Postfix."""
        code, enhanced = action.code, action.enhanced
        if phase == "connect":  # the reply in place of the banner (RFC 5321, section 3.1)
            code = 421 if code < 500 else 554
        name, kind = _CLASSES[phase]
        name = name or _name_at(phase, session, arguments)
        text = f"<{name}>: {kind} rejected: {action.text}"
        return Reject(code, enhanced, text, reason=f"{action.word} {action.text}", decided_by=self.source)

    def _unavailable(self, session: Session, phase: Phase, reason: str) -> Reject:
        code, enhanced, text = _UNAVAILABLE
        self._warn(session, phase, f"{reason}: refused with {code} {enhanced}")
        return Reject(421 if phase == "connect" else code, enhanced, text, reason=reason, decided_by=self.source)

    def _warn(self, session: Session, phase: Phase, text: str) -> None:
        _log.warning("session %s: %s at %s: %s", session.id, self.source, phase, text)


def _name_at(phase: Phase, session: Session, arguments: tuple[Any, ...]) -> str:
    if phase == "connect":
        return f"{session.client_name}[{session.peer_address or 'unknown'}]"
    return str(arguments[0])


_Effect = Callable[[PolicydPolicy, Action, Phase, Session, tuple[Any, ...]], Awaitable[Done | Deferral | None]]

_EFFECTS: Final[Mapping[str, _Effect]] = {
    "OK": PolicydPolicy._accept,
    "PERMIT": PolicydPolicy._accept,
    "REJECT": PolicydPolicy._refuse,
    "DEFER": PolicydPolicy._refuse,
    "DEFER_IF_PERMIT": PolicydPolicy._defer_if,
    "DEFER_IF_REJECT": PolicydPolicy._defer_if,
    "PREPEND": PolicydPolicy._prepend,
    "DISCARD": PolicydPolicy._discard,
    "HOLD": PolicydPolicy._hold,
    "REDIRECT": PolicydPolicy._change_envelope,
    "BCC": PolicydPolicy._change_envelope,
    "WARN": PolicydPolicy._log_text,
    "INFO": PolicydPolicy._log_text,
    "UNKNOWN": PolicydPolicy._refuse_unknown,
}


# The methods of a phase.  The chain asks at the phases for which a class has a method.

_Answer = Done | Deferral | None


async def _at_connect(self: PolicydPolicy, session: Session) -> _Answer:
    return await self._ask("connect", session)


async def _at_ehlo(self: PolicydPolicy, session: Session, domain: str) -> _Answer:
    return await self._ask("ehlo", session, domain)


async def _at_mailfrom(
    self: PolicydPolicy, session: Session, sender: Address, parameters: Mapping[str, str | None]
) -> _Answer:
    return await self._ask("mailfrom", session, sender, parameters)


async def _at_rcptto(
    self: PolicydPolicy, session: Session, recipient: Address, parameters: Mapping[str, str | None]
) -> _Answer:
    return await self._ask("rcptto", session, recipient, parameters)


async def _at_data(self: PolicydPolicy, session: Session) -> _Answer:
    return await self._ask("data", session)


async def _at_data_spool(self: PolicydPolicy, session: Session, message: Message) -> _Answer:
    return await self._ask("data_spool", session, message)


_METHODS: Final[Mapping[Phase, Callable[..., Awaitable[_Answer]]]] = {
    "connect": _at_connect,
    "ehlo": _at_ehlo,
    "mailfrom": _at_mailfrom,
    "rcptto": _at_rcptto,
    "data": _at_data,
    "data_spool": _at_data_spool,
}


def make_policyd_policy(settings: PolicydSettings, filters: FilterRegistry, judge: "Judge") -> Policy:
    """Return the policy that asks a policy service at the phases of its key.

    ``judge`` says whether a message may have a recipient that the service adds.
    """
    methods = {f"validate_{phase}": _METHODS[phase] for phase in settings.key.phases}
    kind = type("PolicydPolicy", (PolicydPolicy,), methods)
    policy: Policy = kind(settings, filters, judge)
    return policy
