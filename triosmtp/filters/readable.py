"""Whether something has arrived on a connection that should be silent."""

import select

import trio

__all__ = ["is_readable"]


def is_readable(stream: trio.SocketStream) -> bool:
    """Return whether octets or the end of the stream have arrived."""
    poll = select.poll()
    poll.register(stream.socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
