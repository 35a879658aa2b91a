"""REDIRECT and BCC: recipients that a filter puts in the place of the client's, or beside them.

They are kept in the message context, which ends with the message, and are applied when the message is complete.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from triosmtp.message import Message, Recipient
from triosmtp.policy import Done, Policy, Session
from triosmtp.smtp import Address, PathError, parse_path

__all__ = ["BCC", "MAX_ADDED", "REDIRECT", "EnvelopeChanges", "Judge", "change_of", "defer_change"]

REDIRECT: Final = "filter_redirect"
BCC: Final = "filter_bcc"
"""Variables of the message context: an address, and addresses divided by a line end."""
MAX_ADDED: Final = 16
"""Recipients that filters add to one message."""

Judge: TypeAlias = Callable[[Address], Awaitable[str]]
"""Returns why a message may not have a recipient; ``""`` if it may."""


def change_of(text: str) -> Address:
    """Read the address of a REDIRECT or BCC, with or without ``<`` and ``>``.

    :raises ValueError: if it is no mailbox with a domain.
    """
    path = text if text.startswith("<") else f"<{text}>"
    try:
        address = parse_path(path.encode("utf-8"), utf8=True, forward=True)
    except PathError as error:
        raise ValueError(f"not an address: {error}") from None
    if not address.domain:
        raise ValueError("not an address: no domain")
    return address


def defer_change(session: Session, message: Message | None, key: str, address: Address) -> bool:
    """Keep a change until the message is complete, or apply it if it is; return False if there are too many."""
    variables = session.message_variables
    if key == REDIRECT:
        variables.record({REDIRECT: str(address)})
    else:
        added = [each for each in variables.get(BCC, "").split("\n") if each]
        if str(address) not in added:
            if len(added) >= MAX_ADDED:
                return False
            variables.record({BCC: "\n".join([*added, str(address)])})
    if message is not None:
        apply_changes(session, message)
    return True


def apply_changes(session: Session, message: Message) -> None:
    """Change the recipients of a message.  REDIRECT takes the place of all of them, BCC too, as in Postfix."""
    variables, recipients = session.message_variables, message.envelope.recipients
    redirect = variables.get(REDIRECT)
    if redirect:
        recipients[:] = [Recipient(change_of(redirect), {})]
        return
    for text in filter(None, variables.get(BCC, "").split("\n")):
        address = change_of(text)
        if all(each.address != address for each in recipients):
            recipients.append(Recipient(address, {}))


class EnvelopeChanges(Policy):
    """Applies the changes when a message is complete.  It is the first policy: a DONE of another cannot prevent it.

    The addresses are judged again: a trusted peer can write to the message context.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    @property
    def source(self) -> str:
        """``filter``."""
        return "filter"

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        """Change the recipients."""
        variables = session.message_variables
        texts = [*variables.get(REDIRECT, "").split("\n"), *variables.get(BCC, "").split("\n")]
        for text in filter(None, texts):
            reason = await self._judge(change_of(text))
            if reason:
                raise ValueError(f"{text}: {reason}")
        apply_changes(session, message)
        return None
