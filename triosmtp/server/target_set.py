"""The targets of one configuration in one process: made once for each name, run, and closed together."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from triosmtp.config import Config, Settings, TargetSettings, problem_at
from triosmtp.delivery import (
    Delivery,
    EventSink,
    TargetContext,
    TargetHealth,
    TargetState,
    is_probed,
)
from triosmtp.errors import ConfigError, Problem, collect
from triosmtp.filesystem import state_directory
from triosmtp.limits.target_slots import SlotRegistry
from triosmtp.module_loader import ModuleLoader
from triosmtp.policy import Chain
from triosmtp.server.routing import Routing, Target, Targets
from triosmtp.server.target_factories import make_delivery

if TYPE_CHECKING:
    from triosmtp.delivery.remembered_recipients import RememberedRecipients

__all__ = ["TargetSet", "default_maildir"]

_log = logging.getLogger("triosmtp.server")

_CLOSE_SECONDS = 5.0
"""Seconds that a delivery has to close."""


def default_maildir() -> Path:
    """Return the Maildir for mail without Deliver_To: in the state folder."""
    return state_directory() / "Maildir"


class TargetSet:
    """The targets that the options of ``config`` name.

    ``given`` is the delivery of an embedding program, which replaces Deliver_To.  Events go to ``events``.
    """

    def __init__(
        self,
        config: Config,
        hostname: str,
        loader: ModuleLoader,
        events: EventSink,
        *,
        given: Delivery | None = None,
        memory: "RememberedRecipients | None" = None,
        slots: SlotRegistry | None = None,
    ) -> None:
        self._config = config
        self._hostname = hostname
        self._loader = loader
        self._events = events
        self.slots = SlotRegistry() if slots is None else slots
        """The connections that each target may have, which several configurations share."""
        self._given = None if given is None else Target(str(given), given, TargetHealth(str(given)), given.verifies)
        self._targets: dict[str, Target] = {}
        self._places: dict[str, Settings] = {}  # the settings that name each
        self.remembered = memory
        """The remembered recipients; None if they were not needed yet."""

    def routing(self, settings: Settings, chain: Chain) -> Routing:
        """Return the targets for connections with ``settings``; the policies of ``chain`` may choose a Delivery.

        :raises ConfigError: with a problem for each target that cannot be made.
        """
        problems: list[Problem] = []
        given, domains = self._given, self._config.domains
        if given is None:
            default = collect(problems, partial(self._named, settings))
        else:
            default, domains = (given,), ()
        by_name = {}
        for name in self._config.deliveries if chain.policies else ():
            target = collect(problems, partial(self._target, settings, name))
            if target is not None:
                by_name[name] = target
        routing = collect(problems, partial(Routing.from_settings, default or (), domains, self._named, by_name))
        if problems:
            raise ConfigError(problems)
        assert routing is not None
        return routing

    def memory(self, routing: Routing, chain: Chain) -> "RememberedRecipients | None":
        """Return the remembered recipients; None if recipients of one message cannot have different results."""
        if not (routing.may_mix or "data_spool_each_rcpt" in chain.phases):
            return None
        if self.remembered is None:
            from triosmtp.delivery.remembered_recipients import RememberedRecipients  # noqa: PLC0415 - imports SQLite

            with suppress(ConfigError):  # without a state folder nothing is remembered
                self.remembered = RememberedRecipients(state_directory() / "remembered_recipients.sqlite3")
        return self.remembered

    def _named(self, settings: Settings) -> Targets:
        names = settings.deliver_to or (f"maildir:{default_maildir()}",)
        return tuple(self._target(settings, name) for name in names)

    def _target(self, settings: Settings, name: str) -> Target:
        target = self._targets.get(name)
        if target is None:
            found = self._config.target(name)
            health = TargetHealth(name, grace=found.settings.delivery_grace, on_change=self._events.note_change)
            slots = partial(self.slots.slots, " ".join((name, *map(str, found.addresses))))
            context = TargetContext(self._hostname, health, self._events, self._config.base.node_name or "", slots)
            where = settings if found.is_short else found.settings
            try:
                delivery = make_delivery(found, context, self._loader)
            except ValueError as error:
                raise ConfigError([problem_at(where, "deliver_to", str(error))]) from error
            target = self._targets[name] = Target(name, delivery, health, found.settings.verify_recipients)
            self._places[name] = where
        return target

    def tasks(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """Yield name and function of each background task of the deliveries, and of the watches of their health."""
        from triosmtp.delivery.target_watch import watch_target  # noqa: PLC0415 - only a server has tasks

        given = () if self._given is None else (self._given,)
        for target in (*given, *self._targets.values()):
            if type(target.delivery).run is not Delivery.run:
                yield f"delivery {target}", target.delivery.run
        for target in self._targets.values():
            if is_probed(target.delivery):
                yield f"health of {target}", partial(watch_target, target.delivery, target.health, self._events.emit)

    async def check(self, *, connect: bool = False) -> None:
        """Ask every target whether it is set up in such a way that it keeps what it accepts.

        A target that is not available is an error only with ``connect``.

        :raises ConfigError: with a problem for everything that is wrong.
        """
        problems: list[Problem] = []

        async def ask(name: str, delivery: Delivery) -> None:
            found = list(await delivery.find_problems())
            if connect and not found and (failure := await delivery.probe()):
                found.append(f"not available: {failure}")
            problems.extend(problem_at(self._places[name], "deliver_to", f"{name}: {each}") for each in found)

        async with trio.open_nursery() as nursery:
            for name, target in self._targets.items():
                if connect or type(target.delivery).find_problems is not Delivery.find_problems:
                    nursery.start_soon(ask, name, target.delivery)
        if problems:
            raise ConfigError(problems)

    def adopt_health(self, former: "TargetSet") -> None:
        """Take over the health of each target that ``former`` has with the same addresses and settings.

        It is called when this configuration is put in force.  Otherwise a target that fails would be available again
        for the seconds of its grace.
        """
        for name, target in self._targets.items():
            before = former.find_health(self._config.target(name))
            if before is not None:
                target.health.adopt(before)

    def find_health(self, settings: TargetSettings) -> TargetHealth | None:
        """Return the health of a target with these settings; None if there is none."""
        target = self._targets.get(settings.name)
        return None if target is None or self._config.target(settings.name) != settings else target.health

    def states(self) -> tuple[TargetState, ...]:
        """Return the state of every target in this process."""
        given = () if self._given is None else (self._given,)
        return tuple(target.health.state() for target in (*given, *self._targets.values()))

    async def count_remembered(self) -> int:
        """Return the number of remembered recipients."""
        return 0 if self.remembered is None else await self.remembered.count()

    async def aclose(self) -> None:
        """Close every delivery that the options name.  Each has up to 5 s."""
        for target in self._targets.values():
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
                try:
                    await target.delivery.aclose()
                except Exception:  # noqa: BLE001 - an error of a delivery must not end the server
                    _log.exception("closing %s failed", target)
        if self.remembered is not None:
            with trio.CancelScope(shield=True):
                await self.remembered.aclose()
