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

    A signature that does not hold leaves entries there even when the error is waived.  They would come up as the
    reasons of the next failure in this thread, whatever that is; and an OpenSSL before 4.0 takes them, on every
    connection, for a failure where it only wants more input.  A handshake that is told to go on clears the queue before
    anything else; this one has no input, so that nothing else happens.
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
