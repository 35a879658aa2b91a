"""OpenSSL's errors: their words, and the queue, which belongs to the thread and not to what left something there."""

import threading

from OpenSSL import SSL

__all__ = ["clear_errors", "error_words"]


class _Scratch(threading.local):
    """An unused connection for each thread: OpenSSL's error queue belongs to the thread."""

    def __init__(self) -> None:
        self.connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
        self.connection.set_accept_state()


_scratch = _Scratch()


def clear_errors() -> None:
    """Empty this thread's OpenSSL error queue (about 1 µs).

    An invalid signature leaves entries there even if the error is waived.  They would be reported as the reasons of the
    next failure in this thread.  OpenSSL before 4.0 even reports a failure if a connection only needs more input.
    ``do_handshake`` clears the queue first; the scratch connection has no input, so that nothing else happens.
    """
    try:
        _scratch.connection.do_handshake()
    except SSL.WantReadError:
        return


def error_words(error: Exception) -> str:
    """Return OpenSSL's reasons out of an exception of pyOpenSSL's, or what else it says."""
    if error.args and isinstance(error.args[0], list):
        return "; ".join(reason for _, _, reason in error.args[0] if reason) or "no reason given"
    return str(error) or type(error).__name__
