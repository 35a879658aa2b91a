"""The form of a message in a stream: written, read, and refused if it is not what its document says."""

import hashlib
import json

import pytest
from stream_messages import stream_message

from triosmtp.jetstream.message_codec import decode_message, encode_message, encode_reference
from triosmtp.message.envelope_document import EnvelopeError, ObjectReference

OCTETS = b"Received: by x\r\n\r\n\x00\xff\nline\r\n"


def test_a_message_is_read_as_it_was_written() -> None:
    message = stream_message()
    payload = encode_message(message, "mx1", OCTETS)
    document = json.loads(payload.partition(b"\n")[0])
    assert document["sha256"] == hashlib.sha256(OCTETS).hexdigest()
    found = decode_message(payload)
    assert found.octets == OCTETS
    assert found.document.envelope == message.envelope
    assert (found.document.id, found.document.node, found.document.object) == (message.id, "mx1", None)


def test_a_message_may_be_empty() -> None:
    assert decode_message(encode_message(stream_message(), "mx1", b"")).octets == b""


def test_a_message_may_name_an_object() -> None:
    reference = ObjectReference("MAIL", "mx1-0a-1")
    found = decode_message(encode_reference(stream_message(), "mx1", 5_000_000, "a" * 64, reference))
    assert (found.document.object, found.document.size, found.octets) == (reference, 5_000_000, b"")


def test_octets_that_are_not_those_of_the_document_are_refused() -> None:
    payload = encode_message(stream_message(), "mx1", OCTETS)
    reference = encode_reference(stream_message(), "mx1", 1, "a" * 64, ObjectReference("MAIL", "a"))
    for changed, named in (
        (payload + b"x", "size"),
        (payload[:-1], "size"),
        (payload[:-1] + b"x", "sha256"),
        (payload.partition(b"\n")[0], "end"),
        (reference + b"x", "object"),
        (b"\n", "JSON"),
    ):
        with pytest.raises(EnvelopeError, match=named):
            decode_message(changed)
