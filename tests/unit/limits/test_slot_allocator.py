"""Slots of a target are divided between processes: the bound, the part of each, and turns if there are too few."""

from collections import defaultdict
from collections.abc import Hashable

import pytest

from triosmtp.limits.slot_allocator import SlotAllocator


class Processes:
    """Processes that receive slots, as the allocator tells them."""

    def __init__(self, limit: int, processes: int) -> None:
        self.limit = limit
        self.held: dict[Hashable, int] = defaultdict(int)
        self.keep: dict[Hashable, int | None] = defaultdict(lambda: None)
        self.unused: dict[Hashable, int] = {}
        self.allocator = SlotAllocator(limit, processes, self.grant, self.recall)

    def grant(self, process: Hashable, number: int) -> None:
        self.held[process] += number
        assert sum(self.held.values()) <= self.limit

    def recall(self, process: Hashable, keep: int | None, unused: int) -> None:
        self.keep[process] = keep
        self.unused[process] = unused

    def want(self, process: str, wanted: int) -> None:
        self.allocator.want(process, wanted, self.limit)

    def give_back(self, process: str, number: int = 1, wanted: int = 0) -> None:
        self.held[process] -= number
        self.allocator.give_back(process, number, wanted)


def test_a_process_gets_its_part_at_first_and_more_if_it_could_use_more() -> None:
    here = Processes(20, 4)
    here.want("a", 1)
    assert here.held["a"] == 5
    here.want("a", 14)
    assert (here.held["a"], here.keep["a"]) == (14, None)
    here.want("b", 8)
    assert (here.held["b"], here.keep["a"], here.keep["b"]) == (6, 12, None), "10 for each of two"
    assert here.unused == {"a": 2, "b": 0}


def test_those_beyond_their_part_give_back_and_then_nobody_is_told_any_more() -> None:
    here = Processes(4, 2)
    here.want("a", 4)
    here.want("b", 1)
    assert (dict(here.held), here.keep["a"]) == ({"a": 4}, 3)
    here.give_back("a", wanted=4)
    assert (here.held["b"], here.keep["a"], here.keep["b"]) == (1, None, 1), "a could use one that b has no use for"
    here.want("b", 5)
    assert (here.keep["a"], here.keep["b"]) == (2, 1), "no more than its half"
    here.give_back("a", wanted=2)
    assert here.held == {"a": 2, "b": 2}
    assert (here.keep["a"], here.keep["b"]) == (2, None), "what is unused is still needed"
    here.give_back("a")
    assert here.held == {"a": 1, "b": 3}, "a had no use for it"


@pytest.mark.parametrize("limit", [1, 2])
def test_fewer_slots_than_processes_go_round(limit: int) -> None:
    here = Processes(limit, 3)
    order = []
    for name in "abc":
        here.want(name, 1)
    for _ in range(12):
        (name, *_) = [each for each in "abc" if here.held[each] and here.keep[each] == 0]
        order.append(name)
        here.give_back(name, wanted=1)
    assert order == list("abc") * 4


def test_the_slots_of_a_process_that_ended_are_free() -> None:
    here = Processes(2, 2)
    here.want("a", 2)
    here.want("b", 2)
    here.held["a"] = 0
    here.allocator.remove("a")
    assert here.held["b"] == 2
    assert here.keep["b"] is None
    here.allocator.remove("a")
    here.allocator.remove("b")
    assert here.allocator.is_unused


def test_a_lower_limit_calls_slots_back() -> None:
    here = Processes(4, 2)
    here.want("a", 4)
    here.allocator.want("a", 0, 1)
    assert here.keep["a"] == 1
    here.give_back("a", 3)
    assert here.held["a"] == 1
    assert here.keep["a"] is None


def test_a_process_that_begins_again_is_told_again() -> None:
    here = Processes(1, 2)
    here.want("a", 1)
    here.want("b", 1)
    assert here.keep == {"a": 0, "b": None}
    here.keep.clear()
    here.want("a", 1)
    assert here.keep == {"a": 0}
