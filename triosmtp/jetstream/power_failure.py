"""Says what a power failure can lose, by what the monitoring ports of the servers say."""

import logging
from typing import Final

import trio

from triosmtp.jetstream.stream_query import syncs_always

__all__ = ["report_power_failures"]

_log = logging.getLogger("triosmtp.nats")

_INTERVAL: Final = 60.0
"""Seconds until a monitoring port that did not answer is asked again."""
_RISK: Final = (
    "JetStream acknowledges messages before they are synced to disk, every two minutes by default: if most servers "
    "lose power at once, accepted mail can be lost; sync_interval: always prevents that"
)


async def report_power_failures(name: str, monitors: tuple[str, ...]) -> None:
    """Ask each of ``monitors``, ``http://host:port``, until all have answered, and log one notice if mail is at risk.

    ``name`` is the stream, for logs.
    """
    if not monitors:
        _log.info("%s: %s (Monitor tells whether it is set)", name, _RISK)
    waiting, failing = list(monitors), set[str]()
    synced = True
    while waiting:
        for monitor in tuple(waiting):
            try:
                synced &= await trio.to_thread.run_sync(syncs_always, monitor, abandon_on_cancel=True)
            except (OSError, ValueError) as error:
                if monitor not in failing:
                    failing.add(monitor)
                    _log.warning("%s: Monitor %s: %s", name, monitor, error)
                continue
            waiting.remove(monitor)
        if waiting:
            await trio.sleep(_INTERVAL)
    if not synced:
        _log.warning("%s: %s", name, _RISK)
    elif monitors:
        _log.info("%s: every server syncs each message before it acknowledges it", name)
