"""One connection to a milter: each step within its time, and an end at any error."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import trio
from milter_program import MilterProgram, milter_program, strings

from triosmtp.config import parse_filter_address
from triosmtp.filters.milter_codec import Change, Protocol
from triosmtp.filters.milter_link import CONTINUE, MilterFailureError, MilterLink
from triosmtp.filters.milter_session import Step


async def opened(milter: MilterProgram, seconds: float = 5) -> MilterLink:
    return await MilterLink.open(parse_filter_address(milter.address), seconds)


async def asked(link: MilterLink, step: Step = Step.HELO, seconds: float = 5, total: float = 5) -> str:
    verdict = await link.step(step, strings("x"), lambda _: None, seconds, deadline=trio.current_time() + total)
    return verdict.word


async def test_a_unix_socket_is_asked_and_told_goodbye(tmp_path: Path) -> None:
    with milter_program(path=str(tmp_path / "m")) as milter:
        link = await opened(milter)
        assert await asked(link) == "continue"
        link.close()
        link.close()
        await trio.to_thread.run_sync(milter.wait_for, lambda: milter.last.commands == "OHQ")


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\1c", b"\xff\xff\xff\xff", b"\0\0\0\x0dO" + bytes(12), b"HTTP/1.1 400\r\n"]
)
async def test_what_is_no_milter_is_a_failure(data: bytes) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(MilterFailureError) as failure:
            await MilterLink.open(parse_filter_address(f"milter:inet:127.0.0.1:{port}"), 5)
        assert failure.value.kind == ("invalid" if data else "broken")
        nursery.cancel_scope.cancel()


async def test_one_that_does_not_negotiate_in_time_is_a_failure() -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(MilterFailureError, match=r"timed out after 0\.05 s"):
            await MilterLink.open(parse_filter_address(f"milter:inet:127.0.0.1:{port}"), 0.05)
    for address, reason in (
        ("unix:/nowhere", "No such file or directory"),
        (f"inet:127.0.0.1:{port}", "Connection refused"),
    ):
        with pytest.raises(MilterFailureError, match=f"^cannot connect to milter:{address}: {reason}$"):
            await MilterLink.open(parse_filter_address(f"milter:{address}"), 5)


def slowly(_code: str, _data: bytes) -> Iterator[bytes]:
    """Work for 0.6 s, with a sign of progress each 0.05 s."""
    for _ in range(12):
        Event().wait(0.05)
        yield b"p"
    yield b"c"


async def test_progress_gives_a_step_its_time_again() -> None:
    with milter_program(slowly) as milter:
        link = await opened(milter)
        assert await asked(link, seconds=0.3) == "continue"
        link.close()


async def test_progress_gives_no_more_than_the_time_of_all() -> None:
    with milter_program(slowly) as milter:
        link = await opened(milter)
        with pytest.raises(MilterFailureError) as failure:
            await asked(link, seconds=0.3, total=0.1)
        assert failure.value.kind == "timeout"
        assert link.closed


async def test_an_answer_that_nobody_asked_for_is_not_that_of_the_next_step() -> None:
    with milter_program(lambda code, _: (b"a", b"c") if code == "Z" else (b"c",)) as milter:
        link = await opened(milter)
        assert await asked(link) == "continue"
        milter._open[-1].sendall(b"\0\0\0\1a")
        await trio.lowlevel.wait_readable(link._stream.socket)
        with pytest.raises(MilterFailureError, match="without a question"):
            await asked(link)
        assert milter.last.commands == "OH"


async def test_steps_without_an_answer_wait_for_one_with_an_answer() -> None:
    with milter_program() as milter:
        milter.protocol = Protocol.NR_MAIL | Protocol.NORCPT
        milter.answers = lambda code, _: () if code == "M" else (b"c",)
        link = await opened(milter)
        assert await asked(link, Step.MAIL) == "continue"
        assert await asked(link, Step.RCPT) == "continue"
        assert milter.last.commands == "O"
        assert await asked(link, Step.DATA) == "continue"
        assert milter.last.commands == "OMT"
        link.abort()
        assert await asked(link, Step.HELO) == "continue"
        assert milter.last.commands == "OMTAH"
        link.close()


async def test_changes_are_passed_on_and_their_error_closes_the_connection() -> None:
    found: list[Change] = []

    async def on_change(change: Change) -> None:
        found.append(change)
        if len(found) == 3:
            raise RuntimeError("enough")

    with milter_program(lambda code, _: (b"bone", b"btwo", b"c") if code == "E" else (b"c",)) as milter:
        link = await opened(milter)
        deadline = trio.current_time() + 5
        step = Step.END_OF_MESSAGE
        assert await link.step(step, b"", lambda _: None, 5, deadline=deadline, on_change=on_change) == CONTINUE
        assert len(found) == 2
        with pytest.raises(RuntimeError):
            await link.step(step, b"", lambda _: None, 5, deadline=deadline, on_change=on_change)
        assert link.closed


async def test_a_step_that_is_cancelled_leaves_no_open_connection() -> None:
    with milter_program(lambda _code, _data: ()) as milter:
        link = await opened(milter)
        with trio.move_on_after(0.02):
            await asked(link)
        assert link.closed
