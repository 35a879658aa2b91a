"""The arguments of commands: each is parsed into its event, or refused with a reply that names the error."""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, Literal, NoReturn

from triosmtp.domain import DomainError, domain_key
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.mail_address import Address, PathError, PathProblem, parse_path
from triosmtp.smtp.parameter import MAIL_PARAMETERS, RCPT_PARAMETERS, Parameters, parse_parameters
from triosmtp.smtp.protocol_event import Bdat, Data, Event, Hello, Help, MailFrom, RcptTo, StartTLS, Verify
from triosmtp.smtp.reply import Reply

__all__ = [
    "Parser", "PathParser", "no_path", "parse_bdat", "parse_data", "parse_ehlo", "parse_helo", "parse_help",
    "parse_mail", "parse_plain_mail", "parse_plain_rcpt", "parse_rcpt", "parse_starttls", "parse_vrfy",
    "refuse_removed", "without_argument",
]  # fmt: skip


Parser = Callable[[bytes, bytes, DialogueState], Event]
"""A function of the whole line, the argument and the dialogue's state; it raises :class:`CommandError`."""
PathParser = Callable[[bytes, bytes | None, DialogueState], Event]
"""A function of a plain path, the parameters behind it, and the dialogue's state."""

_CHUNK = re.compile(rb"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE)
MAX_HELLO = 255  # octets of a domain (RFC 5321, section 4.5.3.1.2)

_NO_PARAMETERS: Final[Parameters] = MappingProxyType({})
_DATA = Data()
_ALWAYS_OFFERED: Final = {"SIZE": "SIZE", "8BITMIME": "BODY", "SMTPUTF8": "SMTPUTF8"}
"""The parameters of MAIL that belong to the extensions that are always offered."""
_NO_ARGUMENT = Reply(501, "This command takes no argument", "5.5.4")

# A path ends at the first ">" outside of quotes.  Spaces after the colon are accepted, as in Postfix.
_PATH = rb' *(<(?:[^<>" ]|"(?:[^"\\]|\\.)*")*>)(?: +(.+))?'
_ANY_FROM = re.compile(rb"(?i:FROM):" + _PATH)
_ANY_TO = re.compile(rb"(?i:TO):" + _PATH)
# Some devices send the path without its brackets.
_UNBRACKETED = re.compile(rb'(?:FROM|TO): *((?:[^<>" ]|"(?:[^"\\]|\\.)*")+)(?: +(.+))?', re.IGNORECASE)


def without_argument(event: Event) -> Parser:
    """Return a parser for a command that takes no argument."""

    def parse(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
        if argument:
            raise CommandError(_NO_ARGUMENT, "argument to a command that takes none")
        return event

    return parse


def parse_ehlo(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse EHLO domain."""
    return _hello("EHLO", line, argument)


def parse_helo(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse HELO domain."""
    return _hello("HELO", line, argument)


def _hello(verb: Literal["EHLO", "HELO"], line: bytes, argument: bytes) -> Event:
    """Accept any word of printable ASCII, since few clients send a domain (RFC 5321, section 4.1.4)."""
    domain = argument.strip(b" ")
    if not domain:
        raise CommandError(Reply(501, f"Syntax: {verb} hostname", "5.5.4"), f"{verb} without a domain")
    if len(domain) > MAX_HELLO or b" " in domain or not domain.isascii():
        raise CommandError(Reply(501, f"Syntax: {verb} hostname", "5.5.4"), f"{verb} with a malformed domain")
    return Hello(verb, domain.decode("ascii"), line.decode("ascii"))


def parse_plain_mail(path: bytes, rest: bytes | None, dialogue: DialogueState) -> Event:
    """Parse MAIL as :func:`parse_mail` does; ``path`` is a :data:`~triosmtp.smtp.mail_address.PLAIN_PATH`.

    ``rest`` is what follows behind a space.
    """
    parameters = _NO_PARAMETERS if rest is None else _mail_parameters(rest, dialogue)
    text = path.decode("ascii")
    mailbox = text[1:-1]
    local_part, _, domain = mailbox.partition("@")
    try:
        domain_key(domain)
    except DomainError:
        _refuse_domain(path, "sender", "5.1.7")
    return MailFrom(Address(local_part, domain, mailbox), parameters, text)


def _mail_parameters(rest: bytes, dialogue: DialogueState) -> Parameters:
    parameters = parse_parameters(rest, MAIL_PARAMETERS, dialogue)
    dialogue.smtputf8 = "SMTPUTF8" in parameters
    dialogue.binary = parameters.get("BODY") == "BINARYMIME"
    return parameters


def no_path(path: bytes, rest: bytes | None, dialogue: DialogueState) -> Event:
    """Fail: the command has no path."""
    raise AssertionError(f"not a command with a path: {path!r}, {rest!r}, {dialogue!r}")


def parse_mail(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse MAIL FROM:<reverse-path> [parameters]."""
    match = _ANY_FROM.fullmatch(argument)
    settings = dialogue.settings
    path, rest = _bare_path(argument, "MAIL FROM:", settings) if match is None else match.groups()
    parameters = _NO_PARAMETERS
    if rest is not None:
        # Before the path, since SMTPUTF8 decides whether the path may be UTF-8.
        parameters = _mail_parameters(rest, dialogue)
    try:
        sender = parse_path(
            path, utf8=dialogue.smtputf8, unqualified=settings.sender_domain, allow_literal=settings.allow_ip_literal
        )
    except PathError as error:
        raise _bad_path(error, "sender", "5.1.7") from None
    if not (sender or settings.allow_null_sender):
        raise CommandError(Reply(550, "The null sender is not accepted here", "5.7.1"), "null sender")
    return MailFrom(sender, parameters, path.decode("utf-8"))


def parse_plain_rcpt(path: bytes, rest: bytes | None, dialogue: DialogueState) -> Event:
    """Parse RCPT as :func:`parse_rcpt` does; the arguments are those of :func:`parse_plain_mail`."""
    parameters = _NO_PARAMETERS if rest is None else parse_parameters(rest, RCPT_PARAMETERS, dialogue)
    text = path.decode("ascii")
    mailbox = text[1:-1]
    local_part, _, domain = mailbox.partition("@")
    try:
        domain_key(domain)
    except DomainError:
        _refuse_domain(path, "recipient", "5.1.3")
    return RcptTo(Address(local_part, domain, mailbox), parameters, text)


def parse_rcpt(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse RCPT TO:<forward-path> [parameters]."""
    match = _ANY_TO.fullmatch(argument)
    settings = dialogue.settings
    path, rest = _bare_path(argument, "RCPT TO:", settings) if match is None else match.groups()
    parameters = _NO_PARAMETERS if rest is None else parse_parameters(rest, RCPT_PARAMETERS, dialogue)
    try:
        recipient = parse_path(
            path,
            utf8=dialogue.smtputf8,
            forward=True,
            unqualified=settings.recipient_domain,
            allow_literal=settings.allow_ip_literal,
        )
    except PathError as error:
        raise _bad_path(error, "recipient", "5.1.3") from None
    return RcptTo(recipient, parameters, path.decode("utf-8"))


def _bare_path(argument: bytes, command: str, settings: ConnectionSettings) -> tuple[bytes, bytes | None]:
    """Return the path of a command without brackets, in brackets, and the parameters behind it.

    :raises CommandError: if it is malformed, or if brackets are required.
    """
    verb, _, word = command.partition(" ")
    match = _UNBRACKETED.fullmatch(argument)
    if match is None or not argument.upper().startswith(word.encode()):
        raise CommandError(Reply(501, f"Syntax: {command}<address>", "5.5.4"), f"malformed {verb}")
    if not settings.allow_unbracketed:
        reply = Reply(501, f"The address has no < and >: use {command}<address>", "5.5.4")
        raise CommandError(reply, f"{verb} without < and > (Allow_Unbracketed_Addresses)")
    path, rest = match.groups()
    return b"<" + path + b">", rest


def _refuse_domain(path: bytes, whose: str, enhanced: str) -> NoReturn:
    """Refuse a path for its domain."""
    try:
        parse_path(path, utf8=False)
    except PathError as error:
        raise _bad_path(error, whose, enhanced) from None
    raise AssertionError("the domain has no key")


def _bad_path(error: PathError, whose: str, enhanced: str) -> CommandError:
    match error.problem:
        case PathProblem.UNQUALIFIED:
            reply = Reply(553, f"The {whose} address needs a fully-qualified domain", "5.5.2")
        case PathProblem.NON_ASCII:
            reply = Reply(553, f"A {whose} address that is not ASCII needs SMTPUTF8", "5.6.7")
        case PathProblem.LITERAL:
            reply = Reply(553, f"Address literals are not accepted in a {whose} address", enhanced)
        case _:
            reply = Reply(553, f"The {whose} address is malformed", enhanced)
    return CommandError(reply, f"bad {whose} path: {error}")


def parse_vrfy(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse VRFY string."""
    if not argument:
        raise CommandError(Reply(501, "Syntax: VRFY address", "5.5.4"), "VRFY without an argument")
    return Verify(_text(argument))


def parse_help(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse HELP [string]."""
    return Help(_text(argument))


def _text(argument: bytes) -> str:
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(Reply(501, "The argument is not UTF-8", "5.5.4"), "argument is not UTF-8") from None


def parse_starttls(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse STARTTLS (RFC 3207, section 4)."""
    if dialogue.tls:
        raise CommandError(Reply(503, "TLS is already active", "5.5.1"), "STARTTLS inside TLS")
    if not dialogue.settings.starttls:
        raise CommandError(Reply(502, "Command not implemented", "5.5.1"), "STARTTLS is not offered")
    if argument:
        raise CommandError(_NO_ARGUMENT, "argument to STARTTLS")
    return StartTLS()


def parse_data(line: bytes, argument: bytes, dialogue: DialogueState) -> Event:  # noqa: ARG001 - as every Parser
    """Parse DATA."""
    if argument:
        raise CommandError(_NO_ARGUMENT, "argument to DATA")
    if dialogue.binary:
        # RFC 3030, section 3: a binary body has no lines, so that no line can end it.
        raise CommandError(Reply(503, "BODY=BINARYMIME needs BDAT", "5.5.1"), "DATA for a binary body")
    return _DATA


def parse_bdat(line: bytes, argument: bytes, dialogue: DialogueState) -> Bdat:  # noqa: ARG001 - as every Parser
    """Parse BDAT chunk-size [LAST] (RFC 3030, section 2)."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise CommandError(Reply(501, "Syntax: BDAT size [LAST]", "5.5.4"), "malformed BDAT")
    return Bdat(int(match[1]), last=match[2] is not None)


def refuse_removed(event: Event, settings: ConnectionSettings) -> None:
    """Refuse MAIL with a parameter of an extension that is removed, although it is always offered otherwise.

    :raises CommandError: 555, as for an unknown parameter.
    """
    if not settings.removed_capabilities or not isinstance(event, MailFrom):
        return
    for keyword in settings.removed_capabilities:
        parameter = _ALWAYS_OFFERED.get(keyword)
        if parameter in event.parameters:
            raise CommandError(Reply(555, f"Unsupported parameter: {parameter}", "5.5.4"), f"parameter {parameter}")
