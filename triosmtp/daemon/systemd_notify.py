"""Notifications to systemd: sd_notify(3), without its library.

They are datagrams to the socket that ``$NOTIFY_SOCKET`` names.  Nothing here waits: if the manager does not read, a
notification is lost.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import trio

__all__ = ["SystemdNotifier", "ping_watchdog"]

_log = logging.getLogger("triosmtp.daemon")

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class SystemdNotifier:
    """Notifies the service manager of the state of this process; without an ``address`` it does nothing.

    ``watchdog`` is WatchdogSec= of the unit, in seconds: the time without a ping after which systemd ends the process.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.watchdog = watchdog if self._socket is not None else None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "SystemdNotifier":
        """Return the notifier of ``environment``, and remove its variables, so that no child notifies in our name."""
        values = {name: environment.pop(name, "") for name in _VARIABLES}
        address = values["NOTIFY_SOCKET"]
        if address[:1] not in {"/", "@"}:
            if address:
                _log.warning(
                    "NOTIFY_SOCKET: %r is neither a path nor an abstract socket: systemd is not notified", address
                )
            return cls()
        microseconds = values["WATCHDOG_USEC"]
        is_own = values["WATCHDOG_PID"] in {"", str(os.getpid())}
        watchdog = int(microseconds) / 1e6 if is_own and microseconds.isdecimal() and int(microseconds) else None
        return cls(address, watchdog)

    def notify_ready(self, status: str) -> None:
        """Notify that the server serves, also after :meth:`notify_reloading`."""
        self._send("READY=1", f"STATUS={status}")

    def notify_status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send(f"STATUS={text}")

    def notify_reloading(self) -> None:
        """Notify that a reload begins; :meth:`notify_ready` ends it, also after an error."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def notify_stopping(self, seconds: float) -> None:
        """Notify that the process ends, and extend TimeoutStopSec= to ``seconds``."""
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def notify_watchdog(self) -> None:
        """Send the keep-alive ping of the watchdog."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            _log.debug("systemd: notification %r failed: %s", lines[0], error)


async def ping_watchdog(notifier: SystemdNotifier) -> None:
    """Send keep-alive pings from the event loop, twice in each WatchdogSec=; a loop that is blocked sends none."""
    if notifier.watchdog is None:
        return
    while True:
        notifier.notify_watchdog()
        await trio.sleep(notifier.watchdog / 2)
