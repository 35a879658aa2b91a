"""The queue of one client, and its frames."""

import pytest
from wsproto.frame_protocol import FrameProtocol

from triosmtp.policy_service.outbox import Outbox, encode_text_frame


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_frames_follow_rfc_6455(size: int) -> None:
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(encode_text_frame(b"x" * size))
    assert b"".join(str(each.payload).encode() for each in reader.received_frames()) == b"x" * size


async def test_urgent_frames_are_taken_first_and_many_at_once() -> None:
    box = Outbox(10, 1000, 2, 20)
    assert box.put_notification(b"note1")
    assert box.put_notification(b"note2")
    assert box.put_urgent(b"question")
    assert await box.take() == b"questionnote1note2"
    assert box.put_urgent(b"1")
    assert box.put_urgent(b"2")
    assert not box.put_urgent(b"3")
    assert not box.put_notification(b"x" * 1001)
    assert box.lost == 1


def test_urgent_frames_are_limited_by_size_too() -> None:
    box = Outbox(10, 1000, 100, 50)
    assert box.put_urgent(b"x" * 50)
    assert not box.put_urgent(b"x")


async def test_frames_that_were_taken_do_not_count() -> None:
    box = Outbox(10, 1000, 100, 50)
    for _ in range(3):
        assert box.put_urgent(b"x" * 50)
        assert len(await box.take()) == 50
