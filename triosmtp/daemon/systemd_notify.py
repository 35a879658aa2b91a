"""What systemd is told: sd_notify(3), without its library.

Datagrams to the socket that ``$NOTIFY_SOCKET`` names.  Nothing here waits: where the manager does not read, what it
would have been told is lost, and mail goes on.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import trio

__all__ = ["Notifier", "feed_watchdog"]

_log = logging.getLogger("triosmtp.daemon")

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the service manager how this process fares; one without an ``address`` tells nobody.

    ``watchdog`` is how many seconds may pass without a sign of life before the manager takes us for dead.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.watchdog = watchdog if self._socket is not None else None

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """Make the one that ``environment`` asks for, and take its variables out: no child shall speak in our name."""
        given = {name: environment.pop(name, "") for name in _VARIABLES}
        address = given["NOTIFY_SOCKET"]
        if address[:1] not in {"/", "@"}:
            if address:
                _log.warning(
                    "NOTIFY_SOCKET: %r is neither a path nor an abstract socket: systemd is told nothing", address
                )
            return cls()
        microseconds = given["WATCHDOG_USEC"]
        ours = given["WATCHDOG_PID"] in {"", str(os.getpid())}
        watchdog = int(microseconds) / 1e6 if ours and microseconds.isdecimal() and int(microseconds) else None
        return cls(address, watchdog)

    def ready(self, status: str) -> None:
        """We serve; or we serve again, after :meth:`reloading`."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Tell what ``systemctl status`` shows: one line."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """The configuration is read again; :meth:`ready` ends it, however it went."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, seconds: float) -> None:
        """We end, and that may take ``seconds``, whatever the manager's own patience is."""
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Give the watchdog its sign of life."""
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
            _log.debug("systemd cannot be told %r: %s", lines[0], error)


async def feed_watchdog(notifier: Notifier) -> None:
    """Give signs of life out of the event loop, twice as often as is asked for: a loop that is stuck gives none."""
    if notifier.watchdog is None:
        return
    while True:
        notifier.alive()
        await trio.sleep(notifier.watchdog / 2)
