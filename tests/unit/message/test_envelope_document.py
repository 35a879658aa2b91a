"""The JSON document of an envelope: written, read again, and checked as commands of a client are."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triosmtp.message import Envelope, Message, Recipient
from triosmtp.message.envelope_document import (
    EnvelopeError,
    ObjectReference,
    encode_document,
    read_document,
    write_document,
)
from triosmtp.message.spool import Body
from triosmtp.smtp import Address, parse_path

SCHEMA = json.loads((files("triosmtp.message") / "schema" / "envelope.v1.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def message(**fields: Any) -> Message:
    values: dict[str, Any] = {
        "id": "mx1-0a1b-1",
        "envelope": Envelope(
            Address("me", "example.org"),
            {"BODY": "8BITMIME", "SMTPUTF8": None, "ENVID": "a+2Bb"},
            [
                Recipient(Address("joe", "example.com"), {"NOTIFY": "FAILURE,DELAY", "ORCPT": "rfc822;j@example.com"}),
                Recipient(parse_path(b'<"a b"@xn--bcher-kva.example>', utf8=True), {}),
                Recipient(parse_path("<jörg@bücher.example>".encode(), utf8=True), {}),
            ],
        ),
        "body": Body(b"Subject: x\r\n\r\nbody\r\n"),
        "received": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        "variables": {"tls_peer_cn": "mail.example.org"},
        "message_variables": {"score": "3"},
    }
    return Message(**(values | fields))


def document(**changes: Any) -> dict[str, Any]:
    written = write_document(message(), node="mx1", size=21, sha256="0" * 64)
    return {name: value for name, value in (written | changes).items() if value is not ...}


def encoded(**changes: Any) -> bytes:
    return encode_document(document(**changes))


def test_what_is_written_is_read_again() -> None:
    sent = message()
    found = read_document(encoded())
    assert found.envelope == sent.envelope
    assert [each.address.text for each in found.envelope.recipients] == [
        "joe@example.com", '"a b"@xn--bcher-kva.example', "jörg@bücher.example",
    ]  # fmt: skip
    assert (found.id, found.node, found.received) == ("mx1-0a1b-1", "mx1", sent.received)
    assert (found.connection_context, found.message_context) == (sent.variables, sent.message_variables)
    assert (found.size, found.sha256, found.object) == (21, "0" * 64, None)


def test_the_null_sender_and_a_reference_are_read_again() -> None:
    sent = message(envelope=Envelope(Address.NULL, {}, [Recipient(Address("postmaster", ""), {})]))
    reference = ObjectReference("MAIL", sent.id)
    written = write_document(sent, node="mx1", size=1, sha256="a" * 64, reference=reference)
    VALIDATOR.validate(written)
    found = read_document(encode_document(written))
    assert found.envelope == sent.envelope
    assert found.object == reference


def test_the_document_is_one_line_of_ascii_and_matches_the_schema() -> None:
    written = write_document(message(variables={"a\nb": "\r\n\udc80\U0001f600"}), node="mx1", size=21, sha256="0" * 64)
    VALIDATOR.validate(written)
    data = encode_document(written)
    assert data.isascii()
    assert b"\n" not in data
    assert read_document(data).connection_context == {"a\nb": "\r\n?\U0001f600"}


WRONG = [
    ({"version": 2}, "version"),
    ({"version": True}, "version"),
    ({"version": ...}, "version"),
    ({"extra": 1}, "extra"),
    ({"id": "a.b"}, "id"),
    ({"id": ""}, "id"),
    ({"id": "a\n"}, "id"),
    ({"id": 1}, "id"),
    ({"node": "a_b"}, "node"),
    ({"received": "yesterday"}, "received"),
    ({"received": "2026-02-03T04:05:06"}, "received"),
    ({"sender": None}, "sender"),
    ({"sender": "me@example.org> SIZE=1 X"}, "sender"),
    ({"sender": "me@example.org>\r\nRCPT TO:<x@example.org"}, "sender"),
    ({"sender": "me"}, "sender"),
    ({"sender": "j\udc80@example.org"}, "sender"),
    ({"sender": "a" * 100_000 + "@example.org"}, "sender: the address is too long"),
    ({"sender_parameters": {"AUTH": "a" * 8192}}, "sender_parameters: together with the address more than 8192"),
    ({"recipients": [{"address": "é" * 5000 + "@b.example", "parameters": {}}]}, "recipients[0].parameters: together"),
    ({"sender_parameters": []}, "sender_parameters"),
    ({"sender_parameters": {"X": "1"}}, "sender"),
    ({"sender_parameters": {"BODY": "9BIT"}}, "sender"),
    ({"sender_parameters": {"BODY": "8BITMIME SIZE=1"}}, "sender_parameters.BODY"),
    ({"sender_parameters": {"BODY": "8BITMIME\r\nRSET"}}, "sender_parameters.BODY"),
    ({"sender_parameters": {"SIZE=1 BODY": None}}, "sender_parameters.SIZE"),
    ({"sender_parameters": {"body": "7BIT"}}, "sender_parameters.body"),
    ({"recipients": []}, "recipients"),
    ({"recipients": {}}, "recipients"),
    ({"recipients": ["joe@example.com"]}, "recipients[0]"),
    ({"recipients": [{"address": "", "parameters": {}}]}, "recipients[0]"),
    ({"recipients": [{"address": "a@b.example", "parameters": {"NOTIFY": "SOON"}}]}, "recipients[0]"),
    ({"recipients": [{"address": "a@b.example", "parameters": {"NOTIFY": "NEVER X"}}]}, "recipients[0].parameters"),
    ({"recipients": [{"address": "a@b.example"}]}, "recipients[0]"),
    ({"recipients": [{"address": "a@b.example", "parameters": {}, "more": 1}]}, "recipients[0]"),
    ({"recipients": [{"address": "a@b.example>", "parameters": {}}]}, "recipients[0]"),
    ({"connection_context": {"a": 1}}, "connection_context.a"),
    ({"message_context": None}, "message_context"),
    ({"size": -1}, "size"),
    ({"size": 1.0}, "size"),
    ({"size": True}, "size"),
    ({"sha256": "A" * 64}, "sha256"),
    ({"object": None}, "object"),
    ({"object": {"bucket": "MAIL"}}, "object"),
    ({"object": {"bucket": "a.b", "name": "x"}}, "object"),
    ({"object": {"bucket": "MAIL", "name": "*"}}, "object"),
]


@pytest.mark.parametrize(
    ("changes", "named"), WRONG, ids=[str(each[0])[:60].encode("unicode_escape").decode() for each in WRONG]
)
def test_an_error_names_its_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read_document(json.dumps(document(**changes)).encode())
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b'{"version":1,"version":1}', b"[" * 100_000, b'{"version":NaN}', b"1" * 5000]
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        read_document(data)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["me@example.org", "MAIL"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(document())), VALUES)
def test_what_is_accepted_matches_the_schema(field: str, value: object) -> None:
    """The parser by hand is at least as strict as the published schema."""
    changed = document(**{field: value})
    try:
        read_document(json.dumps(changed).encode())
    except EnvelopeError:
        return
    VALIDATOR.validate(changed)
