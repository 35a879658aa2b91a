"""The envelope of a message as a JSON document, for systems that receive mail from here (``schema/envelope.v1``).

Another process wrote what is read here, and it may be a hostile one.  So everything is checked: sender, recipients and
their parameters by the same parser that reads MAIL and RCPT.  An error names its field.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import Factory, frozen

from triosmtp.errors import TrioSMTPError
from triosmtp.message.message import Envelope, Message, Recipient
from triosmtp.smtp.argument import parse_mail, parse_rcpt
from triosmtp.smtp.connection_settings import ConnectionSettings
from triosmtp.smtp.dialogue_state import CommandError, DialogueState
from triosmtp.smtp.error_limit import ErrorCounts
from triosmtp.smtp.protocol_event import MailFrom, RcptTo

__all__ = [
    "MAX_RECIPIENTS", "EnvelopeDocument", "EnvelopeError", "ObjectReference", "encode_document", "read_document",
    "write_document",
]  # fmt: skip

MAX_RECIPIENTS: Final = 10_000
"""Recipients of a document."""
_MAX_VARIABLES = 10_000
_MAX_COMMAND: Final = 8192
"""Octets of an address with its parameters; a client has a quarter of that."""
_ID = re.compile(r"[A-Za-z0-9-]{1,128}").fullmatch
_NODE = re.compile(r"[A-Za-z0-9-]{1,32}").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_SHA256 = re.compile(r"[0-9a-f]{64}").fullmatch
_MAX_SIZE = 1 << 62
_FIELDS = frozenset({
    "version", "id", "node", "received", "sender", "sender_parameters", "recipients", "connection_context",
    "message_context", "size", "sha256", "object",
})  # fmt: skip
_EVERYTHING: Final = ConnectionSettings(
    hostname="localhost",
    extensions=frozenset({"DSN", "CHUNKING", "BINARYMIME", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"}),
    max_hold=2**31,
)


class EnvelopeError(TrioSMTPError, ValueError):
    """A document that is not an envelope.  ``str()`` names the field and what was expected."""


@frozen(slots=True)
class ObjectReference:
    """The object of a bucket that has the octets of a message, if they do not follow the document."""

    bucket: str
    name: str


@frozen(slots=True, kw_only=True)
class EnvelopeDocument:
    """The contents of a document."""

    id: str
    """The id of the message."""
    node: str
    """The Node_Name of the server that received it."""
    received: datetime
    envelope: Envelope
    connection_context: Mapping[str, str] = Factory(dict)
    """The connection context, with the ``tls_`` variables of the client's certificate."""
    message_context: Mapping[str, str] = Factory(dict)
    size: int
    """The octets of the message: the header fields that the server added, and the body."""
    sha256: str
    """The SHA-256 of these octets, in hexadecimal digits."""
    object: ObjectReference | None = None


def write_document(
    message: Message, *, node: str, size: int, sha256: str, reference: ObjectReference | None = None
) -> dict[str, Any]:
    """Return the document for ``message``, whose octets have the size ``size`` and the digest ``sha256``."""
    envelope = message.envelope
    document: dict[str, Any] = {
        "version": 1,
        "id": message.id,
        "node": node,
        "received": message.received.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "sender": envelope.sender.text,
        "sender_parameters": dict(envelope.parameters),
        "recipients": [
            {"address": each.address.text, "parameters": dict(each.parameters)} for each in envelope.recipients
        ],
        "connection_context": _encodable(message.variables),
        "message_context": _encodable(message.message_variables),
        "size": size,
        "sha256": sha256,
    }
    if reference is not None:
        document["object"] = {"bucket": reference.bucket, "name": reference.name}
    return document


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return the document on one line of ASCII, without its line end."""
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _encodable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables without lone surrogates, which a policy may have written, and which are no Unicode text."""
    return {_clean(key): _clean(value) for key, value in variables.items()}


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def read_document(data: bytes) -> EnvelopeDocument:
    """Read a document.

    :raises EnvelopeError: if it is not JSON, or not an envelope of version 1.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise EnvelopeError("the document is nested too deeply") from None
    except ValueError as error:
        raise EnvelopeError(f"the document is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise EnvelopeError("the document is not an object")
    if found.get("version") != 1 or isinstance(found["version"], bool):
        raise EnvelopeError("version: expected 1")
    if unknown := sorted(found.keys() - _FIELDS):
        raise EnvelopeError(f"{unknown[0][:40]!r}: unknown field")
    sender, recipients = _addresses(found)
    return EnvelopeDocument(
        id=_match(found, "id", _ID),
        node=_match(found, "node", _NODE),
        received=_time(found),
        envelope=Envelope(sender.sender, sender.parameters, recipients),
        connection_context=_strings(found, "connection_context"),
        message_context=_strings(found, "message_context"),
        size=_size(found),
        sha256=_match(found, "sha256", _SHA256),
        object=_reference(found),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; two readers may disagree about one whose names are not unique."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(found: Mapping[str, Any], name: str, shown: str = "") -> str:
    value = found.get(name)
    if not isinstance(value, str) or any("\ud800" <= each <= "\udfff" for each in value):
        raise EnvelopeError(f"{shown or name}: expected a string")
    return value


def _match(found: Mapping[str, Any], name: str, pattern: Any) -> str:
    value = _text(found, name)
    if not pattern(value):
        raise EnvelopeError(f"{name}: malformed")
    return value


def _size(found: Mapping[str, Any]) -> int:
    value = found.get("size")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SIZE:
        raise EnvelopeError("size: expected a number of octets")
    return value


def _time(found: Mapping[str, Any]) -> datetime:
    text = _text(found, "received")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EnvelopeError("received: expected a time as 2030-01-31T12:00:00Z") from None


def _strings(found: Mapping[str, Any], name: str) -> dict[str, str]:
    value = found.get(name)
    if not isinstance(value, dict) or len(value) > _MAX_VARIABLES:
        raise EnvelopeError(f"{name}: expected an object of strings")
    return {key: _text(value, key, f"{name}.{key[:40]}") for key in value}


def _reference(found: Mapping[str, Any]) -> ObjectReference | None:
    value = found.get("object")
    if value is None and "object" not in found:
        return None
    if not isinstance(value, dict) or value.keys() != {"bucket", "name"}:
        raise EnvelopeError("object: expected bucket and name")
    bucket, name = _text(value, "bucket", "object.bucket"), _text(value, "name", "object.name")
    if not _NAME(bucket) or not _ID(name):
        raise EnvelopeError("object: malformed name")
    return ObjectReference(bucket, name)


def _addresses(found: Mapping[str, Any]) -> tuple[MailFrom, list[Recipient]]:
    """Read sender and recipients as if a client had sent them."""
    dialogue = DialogueState(_EVERYTHING, ErrorCounts(_EVERYTHING), tls=True, esmtp=True, mechanisms=("PLAIN",))
    mail = _command(b"FROM:", found, "sender", found.get("sender_parameters"), "sender_parameters")
    try:
        event = parse_mail(mail, mail, dialogue)
    except CommandError as error:
        raise EnvelopeError(f"sender: {error.reason}") from None
    assert isinstance(event, MailFrom)
    values = found.get("recipients")
    if not isinstance(values, list) or not 0 < len(values) <= MAX_RECIPIENTS:
        raise EnvelopeError(f"recipients: expected a list of 1 to {MAX_RECIPIENTS}")
    recipients = []
    for number, value in enumerate(values):
        where = f"recipients[{number}]"
        if not isinstance(value, dict) or value.keys() != {"address", "parameters"}:
            raise EnvelopeError(f"{where}: expected address and parameters")
        rcpt = _command(b"TO:", value, "address", value["parameters"], f"{where}.parameters", where)
        try:
            found_rcpt = parse_rcpt(rcpt, rcpt, dialogue)
        except CommandError as error:
            raise EnvelopeError(f"{where}: {error.reason}") from None
        assert isinstance(found_rcpt, RcptTo)
        recipients.append(Recipient(found_rcpt.recipient, found_rcpt.parameters))
    return event, recipients


_PATH = re.compile(r'(?:[^\x00-\x1f\x7f<>" ]|"(?:[^\x00-\x1f\x7f"\\]|\\[ -~])*")*').fullmatch
_WORD = re.compile(r"[A-Z0-9][A-Z0-9-]*").fullmatch
_VALUE = re.compile(r"[^\x00- =\x7f]+").fullmatch


def _command(
    word: bytes, found: Mapping[str, Any], name: str, parameters: object, field: str, where: str = ""
) -> bytes:
    """Return the argument of MAIL or RCPT that has this address and these parameters, and nothing else."""
    address = _text(found, name, where or name)
    if len(address) > _MAX_COMMAND:
        raise EnvelopeError(f"{where or name}: the address is too long")
    if not _PATH(address):
        raise EnvelopeError(f"{where or name}: malformed address")
    if not isinstance(parameters, dict):
        raise EnvelopeError(f"{field}: expected an object")
    words = [f"<{address}>"]
    for key, value in parameters.items():
        shown = f"{field}.{key[:40]}"
        if not _WORD(key):
            raise EnvelopeError(f"{shown!a}: malformed name")
        if value is None:
            words.append(key)
            continue
        text = _text(parameters, key, shown)
        if not _VALUE(text):
            raise EnvelopeError(f"{shown}: malformed value")
        words.append(f"{key}={text}")
    command = word + " ".join(words).encode("utf-8")
    if len(command) > _MAX_COMMAND:
        raise EnvelopeError(f"{field}: together with the address more than {_MAX_COMMAND} octets")
    return command
