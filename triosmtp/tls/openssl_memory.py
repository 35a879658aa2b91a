"""What OpenSSL is called for at each command: ciphertext in, plaintext out, plaintext in, ciphertext out.

pyOpenSSL's methods look at everything that may be wrong before they look at the result.  That costs more than all else
that is done in Python for a TLS turn.  So the bindings that pyOpenSSL is made of are called here, and its own treatment
of errors if there is one.  They are not public: if one is missing, pyOpenSSL's methods are called.
"""

# ruff: noqa: SLF001 - the parts of a connection of pyOpenSSL's are used here, and nowhere else

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from OpenSSL import SSL

__all__ = ["holds_input", "read_plaintext", "take_ciphertext", "write_ciphertext", "write_plaintext"]

Data: TypeAlias = bytes | bytearray | memoryview

_lib: Final[Any] = vars(SSL).get("_lib")
_ffi: Final[Any] = vars(SSL).get("_ffi")
_FUNCTIONS: Final = ("BIO_get_mem_data", "BIO_read", "BIO_write", "SSL_read", "SSL_write")
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

# By pyOpenSSL's methods.


def _write_ciphertext(connection: SSL.Connection, data: Data) -> None:
    connection.bio_write(data)


def _read_plaintext(connection: SSL.Connection, limit: int) -> bytes:
    return connection.recv(limit)


def _write_plaintext(connection: SSL.Connection, data: Data) -> None:
    connection.send(data)


def _take_ciphertext(connection: SSL.Connection) -> bytes:
    output = b""
    try:
        while True:
            output += connection.bio_read(16384)
    except SSL.WantReadError:
        return output


def _holds_input(connection: SSL.Connection) -> bool:
    del connection
    return True


# By the bindings.

if DIRECT:
    _bio_read, _bio_size, _bio_write = _lib.BIO_read, _lib.BIO_get_mem_data, _lib.BIO_write
    _ssl_read, _ssl_write = _lib.SSL_read, _lib.SSL_write
    _allocate, _view, _from_buffer = _ffi.new_allocator(should_clear_after_alloc=False), _ffi.buffer, _ffi.from_buffer
    _NULL = _ffi.NULL


def _write_ciphertext_directly(connection: Any, data: Data) -> None:
    _bio_write(connection._into_ssl, data if type(data) is bytes else _from_buffer(data), len(data))


def _read_plaintext_directly(connection: Any, limit: int) -> bytes:
    buffer = _allocate("char[]", limit)
    size = _ssl_read(connection._ssl, buffer, limit)
    if size <= 0:
        connection._raise_ssl_error(connection._ssl, size)
    plaintext: bytes = _view(buffer, size)[:]
    return plaintext


def _write_plaintext_directly(connection: Any, data: Data) -> None:
    size = _ssl_write(connection._ssl, data if type(data) is bytes else _from_buffer(data), len(data))
    if size <= 0:
        connection._raise_ssl_error(connection._ssl, size)


def _take_ciphertext_directly(connection: Any) -> bytes:
    size = _bio_size(connection._from_ssl, _NULL)
    if not size:
        return b""
    buffer = _allocate("char[]", size)
    ciphertext: bytes = _view(buffer, _bio_read(connection._from_ssl, buffer, size))[:]
    return ciphertext


def _holds_input_directly(connection: Any) -> bool:
    return bool(_bio_size(connection._into_ssl, _NULL))


write_ciphertext: Final[Callable[[SSL.Connection, Data], None]] = (
    _write_ciphertext_directly if DIRECT else _write_ciphertext
)
"""Return OpenSSL ciphertext that was received.  It takes all of it."""

read_plaintext: Final[Callable[[SSL.Connection, int], bytes]] = _read_plaintext_directly if DIRECT else _read_plaintext
"""Decrypt one record, or what is left of it, up to a limit; raise :class:`OpenSSL.SSL.Error` if there is nothing."""

write_plaintext: Final[Callable[[SSL.Connection, Data], None]] = (
    _write_plaintext_directly if DIRECT else _write_plaintext
)
"""Encrypt data, which is not empty; raise :class:`OpenSSL.SSL.Error` if that is not possible."""

take_ciphertext: Final[Callable[[SSL.Connection], bytes]] = _take_ciphertext_directly if DIRECT else _take_ciphertext
"""Take all that OpenSSL has to send; ``b""`` if that is nothing."""

holds_input: Final[Callable[[SSL.Connection], bool]] = _holds_input_directly if DIRECT else _holds_input
"""Return whether OpenSSL may hold ciphertext that it has not looked at."""
