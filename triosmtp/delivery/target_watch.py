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
    """Watch a target until cancelled.  While it does not fail, nothing is done."""
    while True:
        while health.failing_since is None:
            await health.wait_turn()
        await _watch_failing(delivery, health, emit)


async def _watch_failing(delivery: Delivery, health: TargetHealth, emit: Observer) -> None:
    """Probe a target that fails until a probe or a message succeeds."""
    began = trio.current_time()
    announced, delay, probe_at = False, MIN_PROBE_DELAY, began + MIN_PROBE_DELAY
    while (since := health.failing_since) is not None:
        with trio.move_on_at(min(probe_at, inf if announced else since + health.grace)):
            await health.wait_turn()
            continue
        if health.is_down and not announced:
            announced = True
            emit(TargetChanged(target=health.name, available=False, reason=health.reason, seconds=_since(since)))
            health.note_change()
        if trio.current_time() >= probe_at:
            await _probe(delivery, health)
            delay = min(delay * 2, MAX_PROBE_DELAY)
            probe_at = trio.current_time() + delay
    if announced:
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
