"""A cancel scope for one block after the other."""

import pytest
import trio

from triosmtp.server.reusable_scope import ReusableScope


async def test_only_a_cancelled_block_ends_early() -> None:
    scope = ReusableScope()
    ended: list[int] = []
    for number in range(6):
        with scope:
            if number % 2:
                scope.cancel()
            await trio.lowlevel.checkpoint()
            ended.append(number)
        assert scope.cancelled_caught is scope.cancel_called is bool(number % 2)
        await trio.lowlevel.checkpoint()  # outside, nothing is cancelled
    assert ended == [0, 2, 4]
    scope.close()
    await trio.lowlevel.checkpoint()


async def test_a_cancelled_block_that_does_not_wait() -> None:
    scope = ReusableScope()
    with scope:
        scope.cancel()
    assert (scope.cancel_called, scope.cancelled_caught) == (True, False)
    await trio.lowlevel.checkpoint()
    with scope:
        await trio.lowlevel.checkpoint()
    assert not scope.cancel_called
    scope.close()


async def test_to_cancel_outside_of_a_block_has_no_effect() -> None:
    scope = ReusableScope()
    scope.cancel()
    for _ in range(2):
        with scope:
            await trio.lowlevel.checkpoint()
        scope.cancel()
        assert not scope.cancel_called
        await trio.lowlevel.checkpoint()
    scope.close()
    scope.close()


async def test_an_exception_leaves_the_block_and_not_the_scope() -> None:
    scope = ReusableScope()
    with pytest.raises(KeyError), scope:
        raise KeyError
    with scope:
        await trio.lowlevel.checkpoint()

    def fail_cancelled() -> None:
        with scope:
            scope.cancel()
            raise KeyError

    with pytest.raises(KeyError):
        fail_cancelled()
    assert not scope.cancelled_caught
    with scope:
        await trio.lowlevel.checkpoint()
    scope.close()


@pytest.mark.parametrize("inner", [False, True])
async def test_a_cancellation_from_outside_goes_on(inner: bool) -> None:
    with trio.CancelScope() as outer:
        scope = ReusableScope()
        try:
            with scope:
                if inner:
                    scope.cancel()
                outer.cancel()
                await trio.sleep_forever()
        finally:
            scope.close()
        raise AssertionError("it goes on")
    assert outer.cancelled_caught
    assert not scope.cancelled_caught


async def test_each_block_makes_no_scope_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    scope = ReusableScope()
    with scope:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(trio, "CancelScope", None)
        for _ in range(3):
            with scope:
                await trio.lowlevel.checkpoint()
    scope.close()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_scope_that_a_block_leaves_open_is_an_error_and_does_not_reach_the_next_block(cancelled: bool) -> None:
    scope, left = ReusableScope(), trio.CancelScope()

    async def leave_open() -> None:
        with scope:
            left.__enter__()
            if cancelled:
                left.cancel()
                await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="Cancel scope stack corrupted"):
        await leave_open()
    assert scope.is_misnested
    left.cancel()
    await trio.lowlevel.checkpoint()
    scope.close()
