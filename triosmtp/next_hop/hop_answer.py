"""Which answers of a next hop the client receives, and in which form.

An answer about the sender, a recipient or the message is passed on: code, enhanced status code, and the text in one
line of printable characters.  All others say that this server or the hop is at fault.  The client is then told 451, so
that a wrong password, a wrong certificate or a hop that refuses us never bounces mail; the hop's words go to the log.
"""

from typing import Final

from triosmtp.delivery import RecipientResult
from triosmtp.next_hop.hop_error import HopBusyError, HopError
from triosmtp.smtp.reply_parser import ReceivedReply

__all__ = ["deferred", "is_our_fault", "result_of"]

_OUR_FAULT: Final = frozenset({421, 500, 501, 502, 503, 504, 530, 534, 535, 538, 555})
"""Answers about the dialogue between this server and the hop: its end, its syntax, its extensions, AUTH and TLS."""

_OF_SENDER: Final = frozenset({550, 552, 553})
_ABOUT_SENDER: Final = ("5.1.", "5.2.3", "5.3.4", "5.6.", "5.7.")
"""Addressing, too long, too big, the media, the policy."""

_MAX_TEXT: Final = 480
"""Characters of a text: a line has 512 octets with the code, the enhanced status code and CRLF."""


def is_our_fault(reply: ReceivedReply, step: str) -> bool:
    """Return whether an answer is about neither sender, recipient nor message.

    A refusal of MAIL for good must be about the sender or the size.  Its enhanced status code says so (RFC 3463), or
    its code (RFC 5321, section 4.3.2).  Others, such as 554, are about this server or the state of the hop.
    """
    if reply.code in _OUR_FAULT or 300 <= reply.code < 400:
        return True
    if step != "MAIL" or reply.code < 500:
        return False
    enhanced = reply.enhanced
    return reply.code not in _OF_SENDER if enhanced is None else not enhanced.startswith(_ABOUT_SENDER)


def result_of(reply: ReceivedReply, step: str, hop: str) -> RecipientResult:
    """Return the result of an answer to MAIL, RCPT or the end of data; ``step`` and ``hop`` are for the log."""
    if is_our_fault(reply, step):
        return deferred(HopError(f"{hop}: {step}: {reply}"))
    reason = "" if reply.positive else f"{hop}: {step}: {reply}"
    return RecipientResult(reply.code, reply.enhanced or "", reply.text[:_MAX_TEXT], reason, str(reply)[:_MAX_TEXT])


def deferred(error: HopError) -> RecipientResult:
    """Return the result of an error: to be tried again.  The text names neither hop nor reason."""
    if isinstance(error, HopBusyError):
        return RecipientResult(451, "4.3.2", "Too many deliveries at the moment, please try again later", str(error))
    return RecipientResult(451, "4.3.0", "Temporary failure, please try again later", str(error))
