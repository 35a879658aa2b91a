"""The body of a request: two parts, read once before and once when it is sent."""

import hashlib
import json
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

import jsonschema
import pytest

from triosmtp.http_delivery import form_body
from triosmtp.http_delivery.form_body import BodyError, FormBody
from triosmtp.message import Message
from triosmtp.message.spool import Body, Spool

SCHEMA = json.loads(
    (Path(form_body.__file__).parents[1] / "message" / "schema" / "envelope.v1.schema.json").read_text("utf-8")
)


async def spooled(folder: Path, octets: bytes) -> Body:
    spool = Spool(folder)
    spool.add(octets)
    await spool.flush()
    return await spool.finish()


async def sent(body: FormBody) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


@pytest.mark.parametrize("size", [0, 10, 5_000, 700_000])
@pytest.mark.parametrize("on_disk", [False, True])
async def test_the_form_has_the_envelope_and_then_the_message(
    make_message: Callable[..., Message], tmp_path: Path, size: int, on_disk: bool
) -> None:
    octets = b"Subject: \xe9\r\n\r\n" + b"\0line\n\r" * (size // 7)
    message = make_message(await spooled(tmp_path, octets) if on_disk else octets)
    body = await FormBody.of(message, "node-1")
    form = await sent(body)
    assert len(form) == body.size
    fed: list[bytes] = []
    await body.feed(fed.append)
    assert b"".join(fed) == form
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    envelope, content = message_from_bytes(head + form, policy=policy.HTTP).iter_parts()
    assert envelope.get_content_type() == "application/json"
    assert envelope["Content-Disposition"] == 'form-data; name="envelope"'
    assert content["Content-Disposition"] == 'form-data; name="message"; filename="s-1-1.eml"'
    whole = message.trace + octets
    assert form.count(whole) == 1
    document = json.loads(str(envelope.get_payload()))
    jsonschema.validate(document, SCHEMA)
    assert (document["size"], document["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert (document["id"], document["node"], document["sender"]) == ("s-1-1", "node-1", "a@example.org")
    assert document["recipients"] == [{"address": "b@example.com", "parameters": {"NOTIFY": "NEVER"}}]
    assert document["connection_context"] == {"tls_client_verified": "yes"}
    assert document["message_context"] == {"rspamd_action": "no action"}
    message.body.close()


async def test_a_message_without_a_header_is_separated_from_the_trace(make_message: Callable[..., Message]) -> None:
    body = await FormBody.of(make_message(b"no header\r\n"), "n")
    assert b"Received: by mx\r\n\r\nno header\r\n" in await sent(body)


async def test_no_two_forms_have_the_same_boundary(make_message: Callable[..., Message]) -> None:
    one, other = [await FormBody.of(make_message(), "n") for _ in range(2)]
    assert one.boundary != other.boundary


async def test_a_spool_file_that_is_cut_off_is_an_error(make_message: Callable[..., Message], tmp_path: Path) -> None:
    body = await spooled(tmp_path, b"x" * 500_000)
    body.size += 1
    with pytest.raises(BodyError, match="spool file: the file ends 1 octets early"):
        await FormBody.of(make_message(body), "n")
    body.close()
