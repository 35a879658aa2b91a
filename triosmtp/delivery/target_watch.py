"""Watches a target that fails: probes it until it is available again, and reports when its grace is over."""

from math import inf
from typing import Final

import trio

from triosmtp.delivery.delivery import Delivery
from triosmtp.delivery.target_health import TargetHealth
from triosmtp.event import Observer, TargetChanged

__all__ = ["MAX_PROBE_DELAY", "MIN_PROBE_DELAY", "watch_target"]

MIN_PROBE_DELAY: Final = 5.0
MAX_PROBE_DELAY: Final = 60.0
"""Seconds between two probes.  The delay doubles from the minimum."""
_PROBE_SECONDS: Final = 30.0
"""Seconds within which a probe must finish."""


async def watch_target(delivery: Delivery, health: TargetHealth, emit: Observer) -> None:
    """Watch a target until a new configuration watches it.  While it does not fail, nothing is done."""
    while not health.is_replaced:
        if health.failing_since is None:
            await health.wait_turn()
        else:
            await _watch_failing(delivery, health, emit)


async def _watch_failing(delivery: Delivery, health: TargetHealth, emit: Observer) -> None:
    """Probe a target that fails until a probe or a message succeeds, or the health is replaced."""
    began = health.failing_since
    delay, probe_at = MIN_PROBE_DELAY, trio.current_time() + MIN_PROBE_DELAY
    while (since := health.failing_since) is not None and not health.is_replaced:
        with trio.move_on_at(min(probe_at, inf if health.is_announced else since + health.grace)):
            await health.wait_turn()
            continue
        if health.is_down and not health.is_announced:
            health.is_announced = True
            emit(TargetChanged(target=health.name, available=False, reason=health.reason, seconds=_since(since)))
            health.note_change()
        if trio.current_time() >= probe_at:
            await _probe(delivery, health)
            delay = min(delay * 2, MAX_PROBE_DELAY)
            probe_at = trio.current_time() + delay
    if began is not None and health.is_announced and not health.is_replaced:
        health.is_announced = False
        emit(TargetChanged(target=health.name, available=True, reason="", seconds=_since(began)))


def _since(moment: float) -> float:
    return trio.current_time() - moment


async def _probe(delivery: Delivery, health: TargetHealth) -> None:
    reason = f"no answer to a probe within {_PROBE_SECONDS:.0f} s"
    with trio.move_on_after(_PROBE_SECONDS):
        try:
            reason = await delivery.probe()
        except Exception as error:  # noqa: BLE001 - whatever it is, the target is not available
            reason = repr(error)
    if reason:
        health.failed(reason)
    else:
        health.succeeded()
