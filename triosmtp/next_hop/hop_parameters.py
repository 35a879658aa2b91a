"""The parameters of MAIL and RCPT for a hop, and what it lacks for a message.

8BITMIME, SMTPUTF8 and SIZE are offered to clients regardless of the hop.  If it lacks what a message needs, the message
is refused for good, since waiting does not help.  The other extensions are offered only while the hop has them.  If one
is missing all the same, it may be back later; REQUIRETLS is refused (RFC 8689, section 4.2.1).
"""

from collections.abc import Mapping
from typing import Final

from triosmtp.delivery import RecipientResult
from triosmtp.message import Envelope, Recipient
from triosmtp.smtp import Address
from triosmtp.smtp.client_command import mail_command, rcpt_command
from triosmtp.smtp.extensions import Extensions

__all__ = ["PASSED_ON", "declared", "lacking", "mail_line", "rcpt_line"]

PASSED_ON: Final = frozenset({"DSN", "BINARYMIME", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY"})
"""The extensions that a Listen offers only if the hop declared them."""

_EXTENSION: Final = {
    "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN", "REQUIRETLS": "REQUIRETLS", "BY": "DELIVERBY",
    "MT-PRIORITY": "MT-PRIORITY",
}  # fmt: skip
"""The parameters that are passed on, by the extension that the hop must have for it."""

_NO_SMTPUTF8: Final = RecipientResult(553, "5.6.7", "The next server does not accept internationalized addresses")
_TOO_BIG: Final = RecipientResult(552, "5.3.4", "The message is larger than the next server accepts")
_NO_TLS: Final = RecipientResult(550, "5.7.30", "REQUIRETLS support required by the next server")


def declared(extensions: Extensions, *, secure: bool) -> frozenset[str]:
    """Return which of :data:`PASSED_ON` a hop has.  ``secure`` is whether TLS and its certificate was checked."""
    found = {each for each in PASSED_ON if each in extensions}
    if "CHUNKING" not in extensions:
        found.discard("BINARYMIME")
    if not secure:
        found.discard("REQUIRETLS")
    return frozenset(found)


def lacking(
    extensions: Extensions, envelope: Envelope, recipients: list[Recipient], *, secure: bool, size: int | None = None
) -> RecipientResult | None:
    """Return why a message cannot be passed on to a hop with these ``extensions``; None if it can, as far as is known.

    ``size`` is the size of the message, if it is there.  Whether its content is 8-bit is not looked at.
    """
    parameters = envelope.parameters
    if "SMTPUTF8" not in extensions and (
        "SMTPUTF8" in parameters or not all(_is_ascii(each) for each in (envelope.sender, *_addresses(recipients)))
    ):
        return _NO_SMTPUTF8
    announced = parameters.get("SIZE")
    octets = size if size is not None else int(announced) if announced else 0
    if 0 < extensions.max_size < octets:
        return _TOO_BIG
    found = declared(extensions, secure=secure)
    needed = {_EXTENSION[name] for name in parameters if name in _EXTENSION}
    needed |= {_EXTENSION[name] for each in recipients for name in each.parameters if name in _EXTENSION}
    if parameters.get("BODY") == "BINARYMIME":
        needed.add("BINARYMIME")
    if "REQUIRETLS" in needed - found:
        return _NO_TLS
    if not needed <= found:
        missing = ", ".join(sorted(needed - found))
        text = "Temporary failure, please try again later"
        return RecipientResult(451, "4.3.0", text, f"the hop does not offer {missing} at the moment")
    return None


def _addresses(recipients: list[Recipient]) -> list[Address]:
    return [each.address for each in recipients]


def _is_ascii(address: Address) -> bool:
    return address.text.isascii()


def mail_line(extensions: Extensions, envelope: Envelope, *, size: int | None = None, elapsed: int = 0) -> bytes:
    """Return MAIL for a hop.  ``size`` replaces the announced one; ``elapsed`` seconds are taken off BY.

    :raises CommandLineError: if the sender cannot be sent in a command.
    """
    given, parameters = envelope.parameters, dict[str, str | None]()
    announced = given.get("SIZE") if size is None else str(size)
    if announced and "SIZE" in extensions:
        parameters["SIZE"] = announced
    body = given.get("BODY")
    if body is not None and (body == "BINARYMIME" or "8BITMIME" in extensions):
        parameters["BODY"] = body
    if "SMTPUTF8" in extensions and ("SMTPUTF8" in given or not _is_ascii(envelope.sender)):
        parameters["SMTPUTF8"] = None
    parameters |= _kept(given)
    if elapsed and (by := parameters.get("BY")):
        parameters["BY"] = _later(by, elapsed)
    return mail_command(envelope.sender, parameters)


def rcpt_line(recipient: Recipient) -> bytes:
    """Return RCPT for a hop.

    :raises CommandLineError: if the address cannot be sent in a command.
    """
    return rcpt_command(recipient.address, _kept(recipient.parameters))


def _kept(parameters: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in parameters.items() if name in _EXTENSION}


def _later(by: str, elapsed: int) -> str:
    """Take seconds off BY= (RFC 2852, section 4.1): in mode R they stay above 0."""
    seconds, _, mode = by.partition(";")
    left = int(seconds) - elapsed
    return f"{max(left, 1) if mode.startswith('R') else left};{mode}"
