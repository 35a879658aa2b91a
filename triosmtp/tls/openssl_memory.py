"""What OpenSSL is called for at each command: ciphertext in, plaintext out, plaintext in, ciphertext out.

pyOpenSSL's methods look at everything that may be wrong before they look at the result.  That costs more than all else
that is done in Python for a TLS turn.  So the bindings that pyOpenSSL is made of are called here, and its own treatment
of errors if there is one.  They are not public: if one is missing, pyOpenSSL's methods are called.

The error queue is emptied before each call whose errors are read: it belongs to the thread, and another connection may
have left something there.
"""

# ruff: noqa: SLF001 - the parts of a connection of pyOpenSSL's are used here, and nowhere else

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias, cast

import trio
from OpenSSL import SSL

from triosmtp.x509.error_queue import clear_errors

__all__ = [
    "RELEASED",
    "advance_handshake",
    "encrypt_data",
    "holds_input",
    "read_plaintext",
    "take_ciphertext",
    "write_ciphertext",
]

Data: TypeAlias = bytes | bytearray | memoryview

_lib: Final[Any] = vars(SSL).get("_lib")
_ffi: Final[Any] = vars(SSL).get("_ffi")
_FUNCTIONS: Final = (
    "BIO_get_mem_data", "BIO_read", "BIO_write", "SSL_ERROR_WANT_READ", "SSL_do_handshake", "SSL_get_error", "SSL_read",
    "SSL_write",
)  # fmt: skip
_ATTRIBUTES: Final = ("_from_ssl", "_into_ssl", "_raise_ssl_error", "_ssl")


def _has_bindings() -> bool:
    connection = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
    return (
        hasattr(_ffi, "from_buffer")
        and all(hasattr(_lib, name) for name in _FUNCTIONS)
        and all(hasattr(connection, name) for name in _ATTRIBUTES)
    )


DIRECT: Final = _has_bindings()
"""Whether the bindings are called."""

_OVERHEAD: Final = 64
"""More octets than encryption adds to one record."""


class _Released:
    def __getattr__(self, name: str) -> NoReturn:
        raise trio.ClosedResourceError("the TLS connection was released")


RELEASED: Final = cast("SSL.Connection", _Released())
"""Stands for a connection that was freed: each use raises :class:`trio.ClosedResourceError`."""

# By pyOpenSSL's methods.


def _write_ciphertext(connection: SSL.Connection, data: Data) -> None:
    connection.bio_write(data)


def _read_plaintext(connection: SSL.Connection, limit: int) -> bytes:
    clear_errors()
    return connection.recv(limit)


def _take_ciphertext(connection: SSL.Connection) -> bytes:
    output = b""
    try:
        while True:
            output += connection.bio_read(16384)
    except SSL.WantReadError:
        return output


def _encrypt_data(connection: SSL.Connection, data: Data) -> bytes:
    clear_errors()
    connection.send(data)
    return _take_ciphertext(connection)


def _holds_input(connection: SSL.Connection) -> bool:
    del connection
    return True


def _advance_handshake(connection: SSL.Connection) -> bool:
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


# By the bindings.

if DIRECT:
    _do_handshake, _get_error, _want_read = _lib.SSL_do_handshake, _lib.SSL_get_error, _lib.SSL_ERROR_WANT_READ
    _bio_read, _bio_size, _bio_write = _lib.BIO_read, _lib.BIO_get_mem_data, _lib.BIO_write
    _ssl_read, _ssl_write = _lib.SSL_read, _lib.SSL_write
    _allocate, _from_buffer = _ffi.new_allocator(should_clear_after_alloc=False), _ffi.from_buffer
    _view: Callable[[Any, int], bytes] = _ffi.buffer
    _NULL = _ffi.NULL


def _write_ciphertext_directly(connection: Any, data: Data) -> None:
    _bio_write(connection._into_ssl, data if type(data) is bytes else _from_buffer(data), len(data))


def _read_plaintext_directly(connection: Any, limit: int) -> bytes:
    buffer = _allocate("char[]", limit)
    clear_errors()
    size = _ssl_read(connection._ssl, buffer, limit)
    if size <= 0:
        connection._raise_ssl_error(connection._ssl, size)
    return _view(buffer, size)[:]


def _encrypt_data_directly(connection: Any, data: Data) -> bytes:
    buffer = data if type(data) is bytes else _from_buffer(data)  # its length is in octets; a view's is in items
    clear_errors()
    size = _ssl_write(connection._ssl, buffer, len(buffer))
    if size <= 0:
        connection._raise_ssl_error(connection._ssl, size)
    size += _OVERHEAD
    buffer = _allocate("char[]", size)
    taken = _bio_read(connection._from_ssl, buffer, size)
    ciphertext = _view(buffer, taken)[:]
    return ciphertext if taken < size else ciphertext + _take_ciphertext_directly(connection)


def _take_ciphertext_directly(connection: Any) -> bytes:
    size = _bio_size(connection._from_ssl, _NULL)
    if not size:
        return b""
    buffer = _allocate("char[]", size)
    return _view(buffer, _bio_read(connection._from_ssl, buffer, size))[:]


def _holds_input_directly(connection: Any) -> bool:
    return bool(_bio_size(connection._into_ssl, _NULL))


def _advance_handshake_directly(connection: Any) -> bool:
    result = _do_handshake(connection._ssl)
    if result == 1:
        return True
    if _get_error(connection._ssl, result) == _want_read:
        return False
    connection._raise_ssl_error(connection._ssl, result)  # also what a callback of this connection has raised
    raise SSL.Error  # it raises in any case


write_ciphertext: Final[Callable[[SSL.Connection, Data], None]] = (
    _write_ciphertext_directly if DIRECT else _write_ciphertext
)
"""Pass ciphertext that was received to OpenSSL.  It takes all of it.  An item of a view is one octet."""

read_plaintext: Final[Callable[[SSL.Connection, int], bytes]] = _read_plaintext_directly if DIRECT else _read_plaintext
"""Decrypt one record, or what is left of it, up to a limit; raise :class:`OpenSSL.SSL.Error` if there is nothing."""

encrypt_data: Final[Callable[[SSL.Connection, Data], bytes]] = _encrypt_data_directly if DIRECT else _encrypt_data
"""Encrypt data, which is not empty; return all that OpenSSL has to send, these data at the end.

:raises OpenSSL.SSL.Error: if that is not possible; :func:`take_ciphertext` takes what is to be sent nevertheless.
"""

take_ciphertext: Final[Callable[[SSL.Connection], bytes]] = _take_ciphertext_directly if DIRECT else _take_ciphertext
"""Take all that OpenSSL has to send; ``b""`` if that is nothing."""

holds_input: Final[Callable[[SSL.Connection], bool]] = _holds_input_directly if DIRECT else _holds_input
"""Return whether OpenSSL may hold ciphertext that it has not looked at."""

advance_handshake: Final[Callable[[SSL.Connection], bool]] = (
    _advance_handshake_directly if DIRECT else _advance_handshake
)
"""Do what can be done of the handshake with the input so far; return whether it is done.

:raises OpenSSL.SSL.Error: if it failed.
"""
