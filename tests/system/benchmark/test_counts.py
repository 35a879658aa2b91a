"""The bytecodes, calls, task steps and system calls of one unit of work stay within ``bench/budget.json``."""

import sys
from queue import Empty

import pytest
import trio

from bench.count import BUDGET, TESTS, Count, count, environment, excess, growth, load_budget
from bench.counted import LockstepClock, Meter

ENVIRONMENT, ALLOWED = load_budget()


@pytest.mark.skipif(environment() != ENVIRONMENT, reason=f"the budget is of {ENVIRONMENT}")
@pytest.mark.parametrize("test", TESTS)
def test_a_unit_takes_no_more_than_its_budget(test: str) -> None:
    now = count(test)
    if above := excess(now, ALLOWED[test]):
        how = f"If it is worth that: `python -m bench.count --write` renews {BUDGET.name}."
        pytest.fail("\n".join([f"{test}: {'; '.join(above)}", how, "What grew:", *growth(now, ALLOWED[test])[:40]]))


def test_a_count_more_than_three_percent_above_the_budget_is_reported() -> None:
    budget = Count({"bytecodes": 1000, "task_steps": 4}, {})
    assert excess(Count({"bytecodes": 1030, "task_steps": 4}, {}), budget) == []
    assert excess(Count({"bytecodes": 500, "task_steps": 3}, {}), budget) == []
    above = excess(Count({"bytecodes": 1031, "task_steps": 5}, {}), budget)
    assert above == ["bytecodes: 1031, +3.1% of the budget's 1000", "task_steps: 5, +25.0% of the budget's 4"]


def test_functions_that_grew_are_reported_largest_first() -> None:
    before = Count({}, {"a.py:f": 100, "a.py:g": 100, "a.py:h": 100, "a.py:i": 100})
    now = Count({}, {"a.py:f": 90, "a.py:g": 130, "a.py:h": 500, "a.py:i": 101, "a.py:new": 31})
    assert growth(now, before) == ["  +400 =    500 a.py:h", "   +31 =     31 a.py:new", "   +30 =    130 a.py:g"]


def measured() -> int:
    return sum(number for number in range(10))


def test_the_meter_counts_functions_and_what_they_call() -> None:
    meter = Meter()
    tracing, profiling = sys.gettrace(), sys.getprofile()
    counts = []
    try:
        for _ in range(3):
            before = meter.snapshot()
            meter.start()
            measured()
            sys.settrace(tracing)
            sys.setprofile(profiling)
            counts.append(meter.snapshot().since(before))
    finally:
        sys.settrace(tracing)
        sys.setprofile(profiling)
    # From CPython 3.12 on, the first call only makes the code one whose opcodes are traced.
    _, first, second = counts
    assert first.functions == second.functions
    assert first.frames == second.frames == 12  # the function, and its generator eleven times
    names = {code.co_qualname for code in first.functions}
    assert names == {"measured", "measured.<locals>.<genexpr>"}


def test_a_frozen_clock_detects_that_trio_waits() -> None:
    clock = LockstepClock()

    async def main() -> None:
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.to_thread.run_sync(look)

    def look() -> None:
        clock.end_step()  # Trio waits for this thread
        clock.now += 2
        trio.from_thread.run_sync(int)

    trio.run(main, clock=clock)
    clock.begin_step()
    with pytest.raises(Empty):
        clock._waits.get_nowait()
