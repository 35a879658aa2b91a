"""Messages of others in the stream, through a consumer that runs: each fails alone, and mail is delivered behind them.

The consumer delivers one message at a time.  So one that stayed in its hands would hold up all others.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from consume_site import consuming_here, envelope, mails, make_site, publish, wait_empty
from nats_servers import OBJECT_BUCKET, JetStream, NATSProcess, publish_octets, run_nats
from stream_messages import stream_message

from triosmtp.jetstream.message_codec import encode_message

OCTETS = b"Subject: x\r\n\r\n"
DIGEST = hashlib.sha256(OCTETS).hexdigest()
MAX_PAYLOAD = 64 * 1024
MANY = [{"address": f"user{number}@example.com", "parameters": {}} for number in range(10_001)]
DEEP = b"[" * 30_000


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NATSProcess]:
    with run_nats(tmp_path_factory.mktemp("nats"), f"max_payload: {MAX_PAYLOAD}\n") as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NATSProcess) -> JetStream:
    jetstream = JetStream(nats_server)
    make_site(jetstream)
    return jetstream


def payload(number: int, octets: bytes = OCTETS, **changes: Any) -> bytes:
    """Return the payload of the message ``mx1-0a-NUMBER`` with other fields; None removes one."""
    line, _, _ = encode_message(stream_message(number), "mx1", OCTETS).partition(b"\n")
    document = {key: value for key, value in {**json.loads(line), **changes}.items() if value is not None}
    return json.dumps(document).encode() + b"\n" + octets


def reference(number: int, name: str = "", bucket: str = "MAIL", **changes: Any) -> bytes:
    return payload(number, b"", object={"bucket": bucket, "name": name or f"mx1-0a-{number}"}, **changes)


def put_object(jetstream: JetStream, name: str, octets: bytes, meta: bytes = b"") -> None:
    async def put(client: Any) -> None:
        context, key = client.jetstream(), base64.urlsafe_b64encode(name.encode()).decode()
        await context.publish(f"$O.MAIL.C.{name}", octets)
        await context.publish(f"$O.MAIL.M.{key}", meta or b'{"chunks": 1}')

    jetstream.run(put)


def failures(jetstream: JetStream) -> dict[str, tuple[str, bytes]]:
    """Return the reason and the payload of each failure, by the end of its subject."""

    async def read(client: Any) -> dict[str, tuple[str, bytes]]:
        context = client.jetstream()
        count = (await context.stream_info("FAILED")).state.messages
        found = {}
        for number in range(1, count + 1):
            message = await context.get_msg("FAILED", seq=number)
            name = message.subject.removeprefix("mail.failed.")
            found[name] = message.headers["Triosmtp-Failure"], message.data or b""
        return found

    return jetstream.run(read)


async def run_consumer(folder: Path, server: NATSProcess, jetstream: JetStream) -> list[bytes]:
    """Publish mail, run a consumer until the stream is empty, and return what is in the mailbox."""
    await publish(server, stream_message(1000, envelope=envelope("joe")), stream_message(1001, b"x" * 300_000))
    async with consuming_here(folder, server, f"maildir:{folder}/Maildir", "Concurrency = 1"):
        with trio.fail_after(60):
            await trio.to_thread.run_sync(wait_empty, jetstream, abandon_on_cancel=True)
    return mails(folder / "Maildir")


HOSTILE: Mapping[str, bytes] = {
    "the document has no end": b"",
    "the document has no end ": b"junk",
    "the document is not JSON": b"junk\njunk",
    "the document is nested too deeply": DEEP + b"\n",
    "the document is not JSON: NaN": b'{"version": NaN}\n',
    "the document is not an object": b"[]\n",
    "version": payload(6, version=2),
    "'x': unknown field": payload(7, x=1),
    "id: malformed": payload(8, id="../../etc/passwd"),
    "id: expected a string": payload(9, id=["mx1-0a-9"]),
    "id: the subject has another one": payload(999),
    "node": payload(11, node="mx 1"),
    "received: expected a time": payload(12, received="tomorrow"),
    "received: expected a time ": payload(13, received="9999-12-31T23:59:59-14:00"),
    "sender: malformed address": payload(14, sender="a@b\r\nRCPT TO:<c@d>"),
    "recipients: expected a list": payload(15, recipients=[]),
    "recipients[0]": payload(16, recipients=[{"address": "a@b"}]),
    "recipients[0]: malformed address": payload(17, recipients=[{"address": "a@b>\r\nDATA", "parameters": {}}]),
    "sender_parameters": payload(18, sender_parameters={"SIZE": 10**30}),
    "connection_context": payload(19, connection_context={"x": {}}),
    "size: expected a number": payload(20, size=-1),
    "size: expected a number ": payload(21, size=10**400),
    "size: 9223": payload(22, size=9_223),
    "sha256: malformed": payload(23, sha256="0"),
    "sha256: the octets": payload(24, sha256="0" * 64),
    "object: octets follow": payload(25, object={"bucket": "MAIL", "name": "mx1-0a-25"}),
    "object: malformed name": reference(26, "a.b"),
    "there is no object mx1-0a-27": reference(27),
    "object: expected one": reference(28, bucket="OTHER"),
    "object: expected one ": reference(29, "mx1-0a-1001"),
    "there is no object mx1-0a-30": reference(30),
    "there is no object mx1-0a-31": reference(31),
    "there is no object mx1-0a-32": reference(32),
    "a part of the object mx1-0a-33": reference(33),
    "the object mx1-0a-34 is larger": reference(34, size=len(OCTETS) - 1),
    "object: the octets have another": reference(35, sha256="0" * 64),
    "malformed: the document has no end": b"x" * MAX_PAYLOAD,
}
"""Payloads of the messages ``mx1-0a-NUMBER``, in this order, by what the failure says."""
METAS = {30: b"[]", 31: b'{"chunks": 1e999}', 32: DEEP, 33: b'{"chunks": 2}', 34: b"", 35: b""}


async def test_what_no_node_publishes_fails_and_holds_up_nothing(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream
) -> None:
    commands = [
        b"PUB mail.in.mx1-0a-%d %d\r\n%s\r\n" % (number, len(each), each)
        for number, each in enumerate(HOSTILE.values())
    ]
    publish_octets(nats_server, *commands)
    for number, meta in METAS.items():
        put_object(jetstream, f"mx1-0a-{number}", OCTETS, meta)
    found = await run_consumer(tmp_path, nats_server, jetstream)
    assert sorted(len(each) > 300_000 for each in found) == [False, True]  # mail, and mail that is an object
    failed = failures(jetstream)
    assert set(failed) == {f"mx1-0a-{number}" for number in range(len(HOSTILE))}
    for number, (reason, published) in enumerate(HOSTILE.items()):
        said, kept = failed[f"mx1-0a-{number}"]
        assert reason.strip() in said
        assert published.startswith(kept)
        assert len(kept) == len(published) or len(published) == MAX_PAYLOAD
    assert len(failed[f"mx1-0a-{len(HOSTILE) - 1}"][1]) > MAX_PAYLOAD * 0.9


SUBJECTS = [
    b"mail.in.*", b"mail.in.>", b"mail.in.\xff", b"mail.in.a\x0bb", b"mail.in.a\x00b", b"mail.in.a\x1b[31m",
    b"mail.in." + b"x" * 3000, b"mail.in.a_b", b"mail.in.*.mx1-0a-1", b"mail.in.sequence-3",
]  # fmt: skip
HEADERS = [
    b"NATS/1.0 404 No Messages\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b"NATS/1.0\r\nStatus: 409\r\n\r\n",
    b"NATS/1.0", b"NATS/1.0\r\nA: \xff\r\n\r\n", b"NATS/1.0\r\n" + b"A: b\r\n" * 8_000 + b"\r\n",
]  # fmt: skip


async def test_any_subject_and_header_is_settled(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream
) -> None:
    """A server stores all of these, also the subjects with wildcards, which it calls invalid."""
    commands = [b"PUB %s 5\r\nhello\r\n" % each for each in SUBJECTS]
    for number, each in enumerate(HEADERS):
        commands.append(b"HPUB mail.in.h%d %d %d\r\n%shello\r\n" % (number, len(each), len(each) + 5, each))
    publish_octets(nats_server, *commands)
    found = await run_consumer(tmp_path, nats_server, jetstream)
    assert len(found) == 2
    expected = {f"h{number}" for number in range(len(HEADERS))} | {"mx1-0a-1"}
    assert set(failures(jetstream)) == expected | {f"sequence-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8)}


async def test_a_wildcard_in_a_subject_purges_nothing(
    tmp_path: Path, nats_server: NATSProcess, jetstream: JetStream
) -> None:
    """A message named ``*`` with several recipients: its results would be those of all messages."""

    async def write(client: Any) -> None:
        await client.jetstream().publish("$KV.MAIL-results.triosmtp.mx1-0a-5", b'{"0":[250,"",""]}')

    jetstream.run(write)
    two = [{"address": f"{name}@example.com", "parameters": {}} for name in ("joe", "ann")]
    text = payload(1, recipients=two)
    publish_octets(nats_server, b"PUB mail.in.* %d\r\n%s\r\n" % (len(text), text))
    await run_consumer(tmp_path, nats_server, jetstream)
    assert list(jetstream.messages("KV_MAIL-results")) == ["$KV.MAIL-results.triosmtp.mx1-0a-5"]


async def test_too_many_recipients_fail(tmp_path: Path, jetstream: JetStream) -> None:
    with run_nats(tmp_path / "nats") as server:  # with a max_payload of 1 MiB
        jetstream = JetStream(server)
        make_site(jetstream)
        jetstream.make(OBJECT_BUCKET)
        text = payload(1, recipients=MANY)
        publish_octets(server, b"PUB mail.in.mx1-0a-1 %d\r\n%s\r\n" % (len(text), text))
        assert len(await run_consumer(tmp_path, server, jetstream)) == 2
        assert "recipients: expected a list of 1 to 10000" in failures(jetstream)["mx1-0a-1"][0]
