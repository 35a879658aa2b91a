"""The content of a message, as a milter gets it."""

from datetime import UTC, datetime

import pytest
import trio
from milter_program import milter_program, strings

from triosmtp.config import parse_filter_address
from triosmtp.filters.milter_codec import Protocol
from triosmtp.filters.milter_content import MAX_CHUNK, header_of, send_content
from triosmtp.filters.milter_link import MilterLink
from triosmtp.message import Envelope, Message
from triosmtp.message.spool import Body
from triosmtp.policy import Session
from triosmtp.smtp import Address


def message(body: bytes) -> Message:
    return Message(id="1-1", envelope=Envelope(Address("a", "b")), body=Body(body), received=datetime.now(UTC))


def session() -> Session:
    return Session(id="1", listener=":25", peer="unix", peer_address=None, local="unix")


@pytest.mark.parametrize(
    "protocol", [0, Protocol.NOBODY, Protocol.NOHDRS, Protocol.NOEOH, Protocol.NR_BODY | Protocol.NR_HDR]
)
@pytest.mark.parametrize("size", [0, 1, MAX_CHUNK, MAX_CHUNK + 1, 300_000])
async def test_the_body_is_whole_and_its_header_is_not_in_it(protocol: int, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    content = message(b"A: b\r\n c\r\nB:d\r\n\r\n" + body[:size])
    with milter_program() as milter:
        milter.protocol = protocol
        milter.answers = lambda code, _: () if protocol & Protocol.NR_BODY and code in "LB" else (b"c",)
        link = await MilterLink.open(parse_filter_address(milter.address), 5)
        verdict = await send_content(
            link, content, await header_of(session(), content), lambda _: None, 5, trio.current_time() + 5
        )
        assert verdict.word == "continue"
        link.close()
        await trio.to_thread.run_sync(
            milter.wait_for, lambda: bool(protocol & Protocol.NR_BODY) or "Q" in milter.last.commands
        )
        fields = [strings("A", "b\n c"), strings("B", "d")]
        if protocol & Protocol.NR_BODY:
            return  # what waits for an answer is not sent before it
        assert milter.last.data_of("L") == ([] if protocol & Protocol.NOHDRS else fields)
        assert milter.last.data_of("N") == ([] if protocol & Protocol.NOEOH else [b""])
        found = milter.last.data_of("B")
        assert b"".join(found) == (b"" if protocol & Protocol.NOBODY else body[:size])
        assert all(0 < len(chunk) <= MAX_CHUNK for chunk in found)


async def test_fields_of_policies_come_before_those_of_the_message() -> None:
    found, content = session(), message(b"A: b\r\n\r\n")
    found.headers.append(("S", "1"))
    found.message_headers.append(("M", "2"))
    assert [each.name for each in (await header_of(found, content)).extra] == [b"S", b"M"]
    content.has_session_headers, content.trace = True, b"T: 3\r\n"
    assert [each.raw for each in (await header_of(found, content)).extra] == [b"T: 3\r\n", b"M: 2\r\n"]
    content.trace = b"T: 3\r\nno field\r\n"
    assert [each.raw for each in (await header_of(found, content)).extra] == [b"M: 2\r\n"]


async def test_a_verdict_ends_the_content() -> None:
    content = message(b"A: b\r\nB: c\r\n\r\nbody")
    with milter_program(lambda code, _: (b"r",) if code == "L" else (b"c",)) as milter:
        link = await MilterLink.open(parse_filter_address(milter.address), 5)
        header = await header_of(session(), content)
        verdict = await send_content(link, content, header, lambda _: None, 5, trio.current_time() + 5)
        assert verdict.word == "reject"
        assert milter.last.commands == "OL"
        link.close()
