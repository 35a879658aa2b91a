"""How late the event loop is."""

import time

import trio
import trio.testing

from triosmtp.histogram import Histogram
from triosmtp.status.loop_lag import LongestLag, measure_lag


async def test_lag_is_how_much_later_the_loop_comes_back() -> None:
    histogram, longest = Histogram((0.1, 1.0)), LongestLag()
    assert longest() == 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure_lag, histogram, longest)
        await trio.testing.wait_all_tasks_blocked()
        began = time.perf_counter()
        while time.perf_counter() - began < 0.9:  # what must never happen: the loop is held up
            pass
        await trio.lowlevel.checkpoint()  # it is long due: this turn is its own
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert longest() >= 0.3
    assert sum(histogram.counts) == 1
