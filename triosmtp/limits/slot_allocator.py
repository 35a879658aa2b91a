"""Divides the connections that a target may have between the processes that deliver to it.

A *slot* is the right to have one connection.  There are ``limit`` slots, and each is free or one process has it.  A
process that needs more than it has says how many, and receives free ones at once.  If none is free, slots of the
others are recalled:

- Slots whose connections are idle are returned in any case, as many as are needed.
- The part of a process is the limit divided by the number of processes that have or need some.  One with fewer slots
  receives those that others have beyond their part.  They return a slot when a step on its connection has ended.
- If there are more processes than slots, the slots go round.  The process that has its slot longest returns it, and
  the one that waits longest receives it.

A slot on its way belongs to the process that it goes to.  One that is returned belongs to its process until it has
arrived here.  So there are never more connections than slots.
"""

from collections.abc import Callable, Hashable
from itertools import count
from typing import Final

from attrs import define

__all__ = ["SlotAllocator"]

_NEVER: Final = -1
_UNTOLD: Final = -1, 0


@define(slots=True, eq=False)
class _Holder:
    """A process that has slots, or needs some."""

    held: int = 0
    wanted: int = 0
    """How many it could use in all, as it said last."""
    told: tuple[int | None, int] = None, 0
    """How many it may keep, None for all, and how many it must return if they are unused, as it knows it."""
    turn: int = _NEVER
    """When it received a slot last, as a number that only grows."""

    @property
    def needed(self) -> int:
        """How many more it needs."""
        return max(0, self.wanted - self.held)


class SlotAllocator:
    """The slots of one target, for ``processes`` processes.

    ``grant`` is called with a process and the number of slots that it receives.  ``recall`` is called with a process,
    the number of slots that it may keep, None for all, and how many it must return if they are unused.
    """

    def __init__(
        self,
        limit: int,
        processes: int,
        grant: Callable[[Hashable, int], None],
        recall: Callable[[Hashable, int | None, int], None],
    ) -> None:
        self._limit = limit
        self._processes = processes
        self._grant = grant
        self._recall = recall
        self._holders: dict[Hashable, _Holder] = {}
        self._turns = count()

    @property
    def is_unused(self) -> bool:
        """Whether no process has a slot or needs one."""
        return not self._holders

    def want(self, process: Hashable, wanted: int, limit: int) -> None:
        """Record that ``process`` could use ``wanted`` slots, of ``limit`` for all; at first it gets its part."""
        self._limit = limit
        holder = self._holders.setdefault(process, _Holder())
        holder.wanted = wanted
        holder.told = _UNTOLD  # what a former configuration knew is forgotten
        granted = self._grant_needed()
        part = max(1, limit // self._processes)
        granted[process] = granted.get(process, 0) + self._give(holder, min(part - holder.held, self._free))
        self._tell(granted)

    def give_back(self, process: Hashable, number: int, wanted: int) -> None:
        """Take back ``number`` slots that ``process`` has released, and record that it could use ``wanted``."""
        holder = self._holders[process]
        holder.held -= number
        holder.wanted = wanted
        keep, unused = holder.told
        holder.told = keep, max(0, unused - number)
        self._tell(self._grant_needed())

    def remove(self, process: Hashable) -> None:
        """Take back all slots of ``process``, which has ended."""
        if self._holders.pop(process, None) is not None:
            self._tell(self._grant_needed())

    @property
    def _free(self) -> int:
        return self._limit - sum(each.held for each in self._holders.values())

    def _give(self, holder: _Holder, number: int) -> int:
        number = max(0, number)
        if number:
            holder.held += number
            holder.turn = next(self._turns)
        return number

    def _grant_needed(self) -> dict[Hashable, int]:
        """Grant the free slots to those that need some: each time to the one with fewest, that waits longest."""
        granted: dict[Hashable, int] = {}
        free = self._free
        needy = {process: each for process, each in self._holders.items() if each.needed}
        while free > 0 and needy:
            process = min(needy, key=lambda each: (needy[each].held, needy[each].turn))
            granted[process] = granted.get(process, 0) + self._give(needy[process], 1)
            free -= 1
            if not needy[process].needed:
                del needy[process]
        return granted

    def _tell(self, granted: dict[Hashable, int]) -> None:
        """Notify each process of what it received, and of what it may keep."""
        for process, number in granted.items():
            if number:
                self._grant(process, number)
        kept = self._kept()
        needed = sum(each.needed for each in self._holders.values()) + max(0, -self._free)
        for process, holder in tuple(self._holders.items()):
            keep = kept.get(process)
            message = keep, 0 if keep is None else needed - holder.needed
            if holder.told != message:
                holder.told = message
                self._recall(process, *message)
            if not holder.held and not holder.needed and keep is None:
                del self._holders[process]

    def _kept(self) -> dict[Hashable, int]:
        """Return how many slots each process may keep that must not keep all."""
        holders = self._holders
        too_many = max(0, -self._free)  # the limit has become lower
        needy = [process for process, each in holders.items() if each.needed]
        if not too_many and not needy:
            return {}
        active = sum(1 for each in holders.values() if each.held or each.needed)
        part = max(1, self._limit // active)
        due = too_many + sum(min(each.needed, max(0, part - each.held)) for each in holders.values())
        kept = {process: each.held for process, each in holders.items()}
        while due:
            most = max(kept, key=kept.__getitem__)
            if kept[most] <= part:
                break
            kept[most] -= 1
            due -= 1
        if active > self._limit:
            for process in sorted(kept, key=lambda each: holders[each].turn):
                if due and kept[process]:
                    kept[process] -= 1
                    due -= 1
        if len(needy) == 1 and not too_many:
            del kept[needy[0]]  # nobody else needs any
        return kept
