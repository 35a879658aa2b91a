"""What a milter changes in one message: collected while it answers, judged, and then applied all at once."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from triosmtp.filters.milter_codec import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    MilterError,
    NewBody,
    Quarantine,
)
from triosmtp.filters.milter_content import trace_fields
from triosmtp.message import Message, Recipient
from triosmtp.message.header_edits import EditError, HeaderEdits, HeaderField
from triosmtp.message.spool import Body, Spool
from triosmtp.policy import Session
from triosmtp.smtp import Address, PathError, parse_path
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.parameter import MAIL_PARAMETERS, RCPT_PARAMETERS, parse_parameters

__all__ = ["MAX_RECIPIENT_CHANGES", "ContentRules", "EnvelopeRules", "MilterChanges"]

MAX_RECIPIENT_CHANGES: Final = 1000
"""Recipients that a milter adds or deletes in one message."""
_UNFOLDED: Final = re.compile(rb"(\r\n?|\n)(?![ \t\r\n]|\Z)")
_PARAMETERS: Final = ConnectionSettings(hostname="localhost", extensions=frozenset({"DSN"}))


@frozen(slots=True, kw_only=True)
class EnvelopeRules:
    """The rules that the server applies to an envelope.  A reason of ``""`` is none."""

    judge_recipient: Callable[[Session, Address], Awaitable[str]]
    """Return why the message may not have this recipient."""
    judge_sender: Callable[[Session, Address], str]
    """Return why the message may not have this sender."""
    refusal_of: Callable[[Session, Address], Awaitable[str]]
    """Return why the rules will refuse a recipient in RCPT: an enhanced status code and a text."""
    is_local: Callable[[Address], bool]
    max_recipients: int


@frozen(slots=True, kw_only=True)
class ContentRules:
    """The rules for the octets of a message."""

    spool_directory: Path | None
    spool_min_free: int
    max_body: int
    """Octets of a new body."""


@define(slots=True)
class MilterChanges:
    """The changes of one message."""

    _rules: ContentRules
    _keeps_leading_space: bool
    quarantine: str | None = None
    """Why the message is to be kept for an operator; None if it is not."""
    _edits: HeaderEdits = field(factory=HeaderEdits, init=False)
    _body: Spool | None = field(default=None, init=False)
    _sender: ChangeSender | None = field(default=None, init=False)
    _recipients: list[AddRecipient | DeleteRecipient] = field(factory=list, init=False)

    def __bool__(self) -> bool:
        changed = self._edits.operations or self._recipients or self._body is not None or self._sender is not None
        return bool(changed) or self.quarantine is not None

    async def add(self, change: Change) -> None:
        """Take a change.

        :raises MilterError: if it is malformed, or there are too many.
        :raises SpoolError: if a new body cannot be written.
        """
        try:
            if isinstance(change, NewBody):
                await self._add_body(change.data)
            elif isinstance(change, AddHeader | InsertHeader | ChangeHeader):
                self._add_header(change)
            elif isinstance(change, ChangeSender):
                self._sender = change
            elif isinstance(change, Quarantine):
                self.quarantine = change.reason
            elif len(self._recipients) < MAX_RECIPIENT_CHANGES:
                self._recipients.append(change)
            else:
                raise MilterError(f"more than {MAX_RECIPIENT_CHANGES} changes of recipients")
        except EditError as error:
            raise MilterError(str(error)) from None

    def edit(self, edits: HeaderEdits) -> None:
        """Add changes of the header behind those that there are.

        :raises EditError: if there are too many.
        """
        self._edits.extend(edits)

    def _add_header(self, change: AddHeader | InsertHeader | ChangeHeader) -> None:
        # A line end that does not fold continues the field, as in Postfix; make_field() knows no such leniency.
        value, space = _UNFOLDED.sub(rb"\1\t", change.value), not self._keeps_leading_space
        if isinstance(change, AddHeader):
            self._edits.append(change.name, value, space=space)
        elif isinstance(change, InsertHeader):
            self._edits.insert(change.index, change.name, value, space=space)
        elif change.value:
            self._edits.change(change.name, change.occurrence, value, space=space)
        else:
            self._edits.delete(change.name, change.occurrence)

    async def _add_body(self, data: bytes) -> None:
        if self._body is None:
            self._body = Spool(self._rules.spool_directory, self._rules.spool_min_free)
        if self._body.size + len(data) > self._rules.max_body:
            raise MilterError(f"a new body of more than {self._rules.max_body} octets")
        if self._body.add(data):
            await self._body.flush()

    def close(self) -> None:
        """Discard what was collected."""
        if self._body is not None:
            self._body.close()

    async def apply(
        self, session: Session, message: Message, extra: tuple[HeaderField, ...], rules: EnvelopeRules
    ) -> str:
        """Change the message; return why it cannot be changed, and leave it as it is then.

        ``extra`` are the fields that policies added, which the milter has seen before those of the message.

        :raises EditError: if the header cannot be edited.
        :raises SpoolError: if the message cannot be written.
        """
        envelope, utf8 = message.envelope, message.envelope.smtputf8
        try:
            sender = None if self._sender is None else _sender_of(self._sender, utf8=utf8)
            recipients = await self._judged_recipients(session, envelope.recipients, rules, utf8=utf8)
        except (ValueError, CommandError) as error:
            return str(error)
        if sender is not None and (reason := rules.judge_sender(session, sender[0])):
            return f"the sender {sender[0]}: {reason}"
        body = await self._edited(message.body, extra)
        if body is not None:
            message.body.close()
            message.body = body
            if self._edits.operations:
                if trace_fields(message):
                    message.trace = b""
                session.message_headers.clear()
                message.has_session_headers = True
        if sender is not None:
            envelope.sender, envelope.parameters = sender[0], {**envelope.parameters, **sender[1]}
        envelope.recipients[:] = recipients
        return ""

    async def _judged_recipients(
        self, session: Session, before: list[Recipient], rules: EnvelopeRules, *, utf8: bool
    ) -> list[Recipient]:
        if not self._recipients:
            return list(before)
        recipients: dict[int, Recipient] = dict(enumerate(before))
        numbers: dict[tuple[str, str], list[int]] = {}  # a client may name a recipient twice
        for number, each in recipients.items():
            numbers.setdefault(_key(each.address), []).append(number)
        for added, change in enumerate(self._recipients, len(before)):
            if isinstance(change, DeleteRecipient):
                for number in numbers.pop(_key(_recipient_at(change.path)), ()):
                    del recipients[number]
                continue
            recipient = Recipient(*_recipient_of(change, utf8=utf8))
            key = _key(recipient.address)
            if key in numbers:
                continue
            if reason := await rules.judge_recipient(session, recipient.address):
                raise ValueError(f"the recipient {recipient}: {reason}")
            recipients[added], numbers[key] = recipient, [added]
            if len(recipients) > rules.max_recipients:
                raise ValueError(f"more than {rules.max_recipients} recipients")
        return list(recipients.values())

    async def _edited(self, body: Body, extra: tuple[HeaderField, ...]) -> Body | None:
        """Return the changed message; None if the milter changed neither header nor body."""
        if not self._edits.operations and self._body is None:
            return None
        edits = HeaderEdits()
        if self._edits.operations:
            for each in reversed(extra):
                edits.prepend(each.name, each.value, space=False)
            edits.extend(self._edits)
        if self._body is None:
            return await edits.apply(body, self._rules.spool_directory, self._rules.spool_min_free)
        new = await self._body.finish()
        try:
            edits.replace_body(new)
            return await edits.apply(body, self._rules.spool_directory, self._rules.spool_min_free)
        finally:
            new.close()


def _key(address: Address) -> tuple[str, str]:
    return address.local_part.casefold(), address.domain_key


def _sender_of(change: ChangeSender, *, utf8: bool) -> tuple[Address, dict[str, str | None]]:
    try:
        sender = parse_path(_bracketed(change.path), utf8=utf8)
    except PathError as error:
        raise ValueError(f"the sender {change.path!r}: {error}") from None
    return sender, dict(parse_parameters(change.parameters, MAIL_PARAMETERS, _dialogue(utf8=utf8)))


def _recipient_of(change: AddRecipient, *, utf8: bool) -> tuple[Address, dict[str, str | None]]:
    address = _recipient_at(change.path)
    if not utf8 and not address.text.isascii():
        raise ValueError(f"the recipient {address}: the message has no SMTPUTF8")
    return address, dict(parse_parameters(change.parameters, RCPT_PARAMETERS, _dialogue(utf8=utf8)))


def _recipient_at(path: bytes) -> Address:
    try:
        address = parse_path(_bracketed(path), utf8=True, forward=True)
    except PathError as error:
        raise ValueError(f"the recipient {path!r}: not an address: {error}") from None
    if not address.domain:
        raise ValueError(f"the recipient {path!r}: not an address: no domain")
    return address


def _bracketed(path: bytes) -> bytes:
    return path if path.startswith(b"<") else b"<" + path + b">"


def _dialogue(*, utf8: bool) -> DialogueState:
    return DialogueState(_PARAMETERS, ErrorCounts(_PARAMETERS), esmtp=True, smtputf8=utf8)
