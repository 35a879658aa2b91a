"""OpenSSL's errors: their texts, and the error queue, which all connections of a thread share."""

import threading
from collections.abc import Callable
from typing import Final

from OpenSSL import SSL

__all__ = ["clear_errors", "error_words"]


class _Scratch(threading.local):
    """An unused connection for each thread: OpenSSL's error queue belongs to the thread."""

    def __init__(self) -> None:
        self.connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
        self.connection.set_accept_state()


_scratch = _Scratch()


def _clear_errors() -> None:
    """Empty the queue by ``do_handshake``, which does that first; without input it does nothing else (1 µs)."""
    try:
        _scratch.connection.do_handshake()
    except SSL.WantReadError:
        return


clear_errors: Final[Callable[[], None]] = getattr(vars(SSL).get("_lib"), "ERR_clear_error", None) or _clear_errors
"""Empty this thread's OpenSSL error queue.  The binding is not public; without it pyOpenSSL is used.

An invalid signature leaves entries there even if the error is waived.  They would be reported as the reasons of the
next failure in this thread.  OpenSSL before 4.0 even reports a failure if a connection only needs more input.
"""


def error_words(error: Exception) -> str:
    """Return OpenSSL's reasons out of an exception of pyOpenSSL's, or what else it says."""
    if error.args and isinstance(error.args[0], list):
        return "; ".join(reason for _, _, reason in error.args[0] if reason) or "no reason given"
    return str(error) or type(error).__name__
