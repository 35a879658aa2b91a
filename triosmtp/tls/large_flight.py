"""Large flights of clients: what is verified in a thread, and what is not verified at all.

An unknown client chooses the chain that it presents, and OpenSSL verifies all of it.  The server waives the error
"untrusted", so that OpenSSL goes on to the name constraints.  Each name of each certificate is compared with each
subtree of each authority above it: the work grows with the square of the size.  With OpenSSL 4.0 on one
core at 3 GHz such a chain takes 16 ms at 4 KB, 640 ms at 26 KB, and 1.6 s at 62 KB.

OpenSSL releases the GIL while it works, so a thread keeps that from the event loop.  Flights below
:data:`LARGE_FLIGHT` stay on the loop: that is what nearly all clients send, and a thread costs a tenth of a handshake.
The caller of :func:`.handshake.handshake` decides which flight waits for a thread.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from typing import Final, TypeAlias

import trio

__all__ = [
    "LARGE_FLIGHT", "MAX_FLIGHT", "MAX_RENEGOTIATION", "MAX_RENEGOTIATIONS", "AcquireThread", "acquire_at_once",
    "flight_limiter",
]  # fmt: skip

LARGE_FLIGHT: Final = 4096
"""Octets of a client's flight above which it is verified in a thread."""
MAX_FLIGHT: Final = 65536
"""Octets of a client's flight above which the handshake fails."""
MAX_RENEGOTIATION: Final = 6144
"""Octets of all that a client sends in a renegotiation, which OpenSSL does within a read, on the event loop."""
MAX_RENEGOTIATIONS: Final = 10
"""Renegotiations of one connection: for more the client must connect again, which the limits of handshakes count."""

AcquireThread: TypeAlias = Callable[[int], AbstractAsyncContextManager[None]]
"""Called with a flight's octets: a context that is entered when it may have a thread, and kept until that is back.

It may raise :class:`~triosmtp.errors.HandshakeError`.
"""


@cache
def flight_limiter() -> "trio.CapacityLimiter":  # made at its first use, as `triosmtp check` does not load trio
    """Return the limiter of the threads of all servers in this process."""
    return trio.CapacityLimiter(2)


def acquire_at_once(_size: int) -> AbstractAsyncContextManager[None]:
    """Let every flight have a thread as soon as one is free."""
    return nullcontext()
