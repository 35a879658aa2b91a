"""The form of a message in a stream: the envelope as JSON on one line, LF, and the octets of the message.

If the document names an object, nothing follows its LF: the octets are in the object store.
"""

import hashlib
from typing import Final

from attrs import frozen

from triosmtp.message import Message
from triosmtp.message.envelope_document import (
    EnvelopeDocument,
    EnvelopeError,
    ObjectReference,
    encode_document,
    read_document,
    write_document,
)

__all__ = ["DOCUMENT_SPACE", "StreamMessage", "decode_message", "encode_message", "encode_reference"]

DOCUMENT_SPACE: Final = 512
"""Octets that the headers of NATS need beside the payload: the id of the message and the name of the stream."""


@frozen(slots=True)
class StreamMessage:
    """A message of a stream.  ``octets`` is empty if ``document.object`` names an object that has them."""

    document: EnvelopeDocument
    octets: bytes


def encode_message(message: Message, node: str, octets: bytes) -> bytes:
    """Return the payload for ``message``, whose header fields and body are ``octets``."""
    digest = hashlib.sha256(octets).hexdigest()
    return encode_document(write_document(message, node=node, size=len(octets), sha256=digest)) + b"\n" + octets


def encode_reference(message: Message, node: str, size: int, sha256: str, reference: ObjectReference) -> bytes:
    """Return the payload for ``message``, whose octets are in an object."""
    return encode_document(write_document(message, node=node, size=size, sha256=sha256, reference=reference)) + b"\n"


def decode_message(payload: bytes) -> StreamMessage:
    """Read a payload, and check it as a client's commands are checked.

    :raises EnvelopeError: if it is malformed, or the octets are not those of the document.
    """
    line, separator, octets = payload.partition(b"\n")
    if not separator:
        raise EnvelopeError("the document has no end")
    document = read_document(line)
    if document.object is not None:
        if octets:
            raise EnvelopeError("object: octets follow a document that names an object")
    elif len(octets) != document.size:
        raise EnvelopeError(f"size: {document.size} stated, {len(octets)} found")
    elif hashlib.sha256(octets).hexdigest() != document.sha256:
        raise EnvelopeError("sha256: the octets have another digest")
    return StreamMessage(document, octets)
