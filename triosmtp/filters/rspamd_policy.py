"""rspamd in the chain: a whole message is sent to it by HTTP, and its action becomes a decision."""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from email.header import Header
from typing import Final

import trio
from attrs import frozen

from triosmtp.errors import Reject
from triosmtp.filters.milter_changes import ContentRules, EnvelopeRules, MilterChanges
from triosmtp.filters.milter_codec import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    MilterError,
)
from triosmtp.filters.milter_content import added_fields
from triosmtp.filters.policyd_action import parse_action
from triosmtp.filters.rspamd_answer import RspamdAnswer, RspamdAnswerError, parse_answer
from triosmtp.filters.rspamd_request import request_headers
from triosmtp.http_client.http_client import HTTPClient, HTTPFailureError
from triosmtp.message import Message
from triosmtp.message.header_edits import EditError, HeaderEdits, HeaderField
from triosmtp.message.spool import SpoolError
from triosmtp.policy import DISCARD, Done, Policy, Session
from triosmtp.policy_service.filter_registry import FilterKey, FilterRegistry, FilterUse
from triosmtp.policy_service.question import Fallback, fallback_reply
from triosmtp.variables import DELIVER_TO

__all__ = ["MAX_ANSWER", "MAX_CONNECTIONS", "RspamdPolicy", "RspamdSettings"]

_log = logging.getLogger("triosmtp.policy")

MAX_CONNECTIONS: Final = 20
"""Connections of one process to one rspamd; further messages wait, within their time limit."""
MAX_ANSWER: Final = 256 * 1024
"""Octets of an answer."""
_REFUSALS: Final[Mapping[str, tuple[int, str, str]]] = {
    "reject": (554, "5.7.1", "Spam message rejected"),
    "soft reject": (451, "4.7.1", "Try again later"),
}
"""The actions that refuse, with the text if rspamd has none."""
_ACCEPTED: Final = frozenset({"no action", "greylist", "add header", "rewrite subject", "quarantine"})
_SPAM: Final = AddHeader(b"X-Spam", b"Yes")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_TEXT: Final = 400


@frozen(slots=True, kw_only=True)
class RspamdSettings:
    """The options of one ``rspamd:``, or of a ``filter:`` that is one."""

    key: FilterKey
    url: str
    """Without ``/checkv2``."""
    timeout: float
    fallback: Fallback
    password: Callable[[], Awaitable[str]] | None
    """Returns the password in force."""
    settings_id: str
    hold_to: str | None
    """The name of the Delivery for messages that it quarantines."""
    hostname: str
    envelope: EnvelopeRules
    content: ContentRules


class _NoAnswerError(Exception):
    """rspamd has no answer that can be applied.  ``kind`` is as in FilterUse."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


class RspamdPolicy(Policy):
    """Has rspamd decide about whole messages."""

    def __init__(self, settings: RspamdSettings, filters: FilterRegistry, client: HTTPClient) -> None:
        self._settings = settings
        self._filters = filters
        self._client = client

    @property
    def source(self) -> str:
        """``rspamd:http://host:port`` or ``filter:NAME``."""
        return self._settings.key.name

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        """Send the message, and apply the answer."""
        changes = MilterChanges(self._settings.content, False)
        began = trio.current_time()
        try:
            extra = added_fields(session, message)
            answer = await self._ask(session, message, extra)
            await _collect(answer, changes)
        except _NoAnswerError as error:
            self._fall_back(session, began, error)
            return None
        except (MilterError, EditError) as error:
            self._fall_back(session, began, _NoAnswerError("invalid", f"the answer cannot be applied: {error}"))
            return None
        except SpoolError as error:
            raise self._spool_failed(session, error) from None
        self._report(session, began, "answered")
        session.message_variables.record({"rspamd_action": answer.action, "rspamd_score": answer.score})
        return await self._decide(session, message, answer, changes, extra)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # Asking

    async def _ask(self, session: Session, message: Message, extra: tuple[HeaderField, ...]) -> RspamdAnswer:
        settings = self._settings
        refused = await self._filters.admit(settings.key)
        if refused:
            raise _NoAnswerError("broken", refused)
        with trio.move_on_after(settings.timeout):
            try:
                return await self._ask_once(session, message, extra)
            except HTTPFailureError as error:
                if error.kind != "broken":
                    raise _NoAnswerError("invalid" if error.kind == "invalid" else "broken", str(error)) from None
            try:  # rspamd may have been started again
                return await self._ask_once(session, message, extra)
            except HTTPFailureError as error:
                raise _NoAnswerError("broken", str(error)) from None
        raise _NoAnswerError("timeout", f"timed out after {settings.timeout:g} s")

    async def _ask_once(self, session: Session, message: Message, extra: tuple[HeaderField, ...]) -> RspamdAnswer:
        settings, before = self._settings, b"".join(each.raw for each in extra)
        headers = list(
            request_headers(
                session, message.envelope, message.id, hostname=settings.hostname, settings_id=settings.settings_id
            )
        )
        if settings.password is not None:
            headers.append(("Password", await settings.password()))

        async def content() -> AsyncGenerator[bytes, None]:
            if before:
                yield before
            async with aclosing(message.body.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk

        size = len(before) + message.body.size
        answer = await self._client.post(f"{settings.url}/checkv2", headers, size, content, max_answer=MAX_ANSWER)
        if answer.status != 200:
            raise _NoAnswerError("invalid", f"answered {answer.status}")
        try:
            return parse_answer(answer.body)
        except RspamdAnswerError as error:
            raise _NoAnswerError("invalid", f"the answer cannot be applied: {error}") from None

    def _report(self, session: Session, began: float, kind: str, failure: str = "") -> None:
        use = FilterUse(
            filter=self._settings.key,
            session=session.info,
            kind=kind,  # type: ignore[arg-type]  # one of those
            phase="data_spool",
            seconds=trio.current_time() - began,
            fallback=self._settings.fallback,
            failure=failure,
        )
        self._filters.report(use)

    def _fall_back(self, session: Session, began: float, error: _NoAnswerError) -> None:
        self._report(session, began, error.kind, str(error))
        reply = fallback_reply("data_spool", self._settings.fallback)
        if reply is not None:
            raise Reject(*reply, reason=f"fallback: {error}", decided_by=self.source)

    # Deciding

    async def _decide(
        self,
        session: Session,
        message: Message,
        answer: RspamdAnswer,
        changes: MilterChanges,
        extra: tuple[HeaderField, ...],
    ) -> Done | None:
        if answer.action in _REFUSALS:
            raise self._refusal(answer)
        if answer.action == "discard":
            return DISCARD
        hold_to = self._settings.hold_to if answer.action == "quarantine" else None
        if answer.action == "quarantine" and hold_to is None:
            raise self._unavailable(session, "no Hold_To names a Delivery for quarantine")
        if answer.action not in _ACCEPTED:
            raise self._unavailable(session, f"the action {answer.action[:100]!r} is not available")
        if hold_to is not None:
            session.message_variables[DELIVER_TO] = hold_to
        return await self._change(session, message, changes, extra) if changes else None

    async def _change(
        self, session: Session, message: Message, changes: MilterChanges, extra: tuple[HeaderField, ...]
    ) -> Done | None:
        try:
            reason = await changes.apply(session, message, extra, self._settings.envelope)
        except EditError as error:
            text = "The header is too large for the filter"
            raise Reject(552, "5.3.4", text, reason=str(error), decided_by=self.source) from None
        except SpoolError as error:
            raise self._spool_failed(session, error) from None
        if reason:
            raise self._unavailable(session, f"the changes are not allowed: {reason}")
        if message.envelope.recipients:
            return None
        _log.info("session %s: %s removed all recipients of %s", session.id, self.source, message.id)
        return DISCARD

    def _refusal(self, answer: RspamdAnswer) -> Reject:
        code, enhanced, text = _REFUSALS[answer.action]
        if answer.message:
            action = parse_action(f"{code} {_CONTROL.sub(' ', answer.message)[:_MAX_TEXT]}")
            enhanced, text = action.enhanced, action.text
        reason = f"{answer.action} (score {answer.score}): {text}"
        return Reject(code, enhanced, text, reason=reason, decided_by=self.source)

    def _unavailable(self, session: Session, reason: str) -> Reject:
        text = f"{reason}: refused with 451 4.3.5"
        _log.warning("session %s: %s at data_spool: %s", session.id, self.source, text)
        return Reject(451, "4.3.5", "Server configuration error", reason=reason, decided_by=self.source)

    def _spool_failed(self, session: Session, error: SpoolError) -> Reject:
        _log.error("session %s: %s: spool file failed, replied 452: %s", session.id, self.source, error)
        return Reject(452, "4.3.1", "Insufficient system storage", reason=str(error), decided_by="spool")


async def _collect(answer: RspamdAnswer, changes: MilterChanges) -> None:
    """Take the changes that an answer demands: first fields that are deleted, then those that are added.

    :raises EditError: if there are too many.
    :raises MilterError: if one is malformed, or there are too many.
    """
    edits = HeaderEdits()
    for name, number in answer.removed:
        edits.delete(name, number or None)
    changes.edit(edits)
    for each in answer.added:
        field, value = each.name.encode("utf-8"), each.value.encode("utf-8")
        index = max(each.order - 1, 0)
        await changes.add(AddHeader(field, value) if each.order < 0 else InsertHeader(index, field, value))
    if answer.action == "add header" and not any(each.name.lower() == "x-spam" for each in answer.added):
        await changes.add(_SPAM)
    if answer.action == "rewrite subject" and answer.subject is not None:
        await changes.add(ChangeHeader(1, b"Subject", _encoded_subject(answer.subject)))
    if answer.sender is not None:
        await changes.add(ChangeSender(answer.sender.encode("utf-8"), b""))
    for path in answer.deleted_recipients:
        await changes.add(DeleteRecipient(path.encode("utf-8")))
    for path in answer.added_recipients:
        await changes.add(AddRecipient(path.encode("utf-8"), b"", extended=False))


def _encoded_subject(subject: str) -> bytes:
    """Return the value of Subject (RFC 2047)."""
    text = _CONTROL.sub(" ", subject) or " "  # an empty value would delete the field
    return (text if text.isascii() else Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")).encode()
