"""Sends the content of a message to a milter: its header, field by field, and its body in chunks."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from attrs import frozen

from triosmtp.filters.milter_codec import Verdict, strings
from triosmtp.filters.milter_link import CONTINUE, MilterLink
from triosmtp.filters.milter_session import Step
from triosmtp.message import Message
from triosmtp.message.header_edits import EditError, Header, HeaderField, parse_header, read_header
from triosmtp.message.trace import field
from triosmtp.policy import Session

__all__ = ["MAX_CHUNK", "MAX_FIELDS", "FilterHeader", "added_fields", "header_of", "send_content", "trace_fields"]

MAX_FIELDS: Final = 1000
"""Fields of a message for a milter."""
MAX_CHUNK: Final = 65_535
"""Octets of the body in one frame: libmilter takes no more."""


@frozen(slots=True)
class FilterHeader:
    """The header as a filter sees it."""

    extra: tuple[HeaderField, ...]
    """The fields that policies added."""
    header: Header
    """That of the message, without the fields that this server adds, and without forged Authentication-Results."""


async def header_of(session: Session, message: Message) -> FilterHeader:
    """Return the header of a message as a filter sees it.

    :raises EditError: if it is too large.
    :raises SpoolError: if it cannot be read.
    """
    return FilterHeader(added_fields(session, message), await read_header(message.body))


def added_fields(session: Session, message: Message) -> tuple[HeaderField, ...]:
    """Return the fields that policies added, which a filter sees before those of the message."""
    added = [*(() if message.has_session_headers else session.headers), *session.message_headers]
    return trace_fields(message) + parse_header(b"".join(field(*each) for each in added), complete=True).fields


def trace_fields(message: Message) -> tuple[HeaderField, ...]:
    """Return the fields that policies appended to ``message.trace``; none if anything in it is no field."""
    found = parse_header(message.trace, complete=True)
    return () if found.from_line or found.body_start < len(message.trace) else found.fields


async def send_content(
    link: MilterLink,
    message: Message,
    header: FilterHeader,
    macro: Callable[[str], str | None],
    seconds: float,
    deadline: float,
) -> Verdict:
    """Send header and body; return the first verdict that is not to go on.

    :raises EditError: if there are more than MAX_FIELDS fields.  Each may need an answer, and a client sends them.
    :raises MilterFailureError: if the milter fails.
    :raises SpoolError: if the message cannot be read.
    """
    if len(header.extra) + len(header.header.fields) > MAX_FIELDS:
        raise EditError(f"the header has more than {MAX_FIELDS} fields")
    keeps_space = link.session.keeps_leading_space
    for each in (*header.extra, *header.header.fields):
        value = each.value if keeps_space else each.value.removeprefix(b" ")
        data = strings(each.name, value.replace(b"\r\n", b"\n"))
        verdict = await link.step(Step.HEADER, data, macro, seconds, deadline=deadline)
        if verdict.word != "continue":
            return verdict
    verdict = await link.step(Step.END_OF_HEADER, b"", macro, seconds, deadline=deadline)
    if verdict.word != "continue" or not link.session.wants(Step.BODY):
        return verdict
    skipped = header.header.body_start
    async with aclosing(message.body.chunks()) as pieces:
        async for piece in pieces:
            start, skipped = min(skipped, len(piece)), max(skipped - len(piece), 0)
            for at in range(start, len(piece), MAX_CHUNK):
                chunk = piece[at : at + MAX_CHUNK]
                verdict = await link.step(Step.BODY, chunk, macro, seconds, deadline=deadline)
                if verdict.word == "skip":
                    return CONTINUE
                if verdict.word != "continue":
                    return verdict
    return CONTINUE
