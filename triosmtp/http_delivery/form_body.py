"""The body of a request: ``multipart/form-data`` (RFC 7578) with the envelope and the message, in this order."""

import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Final

import trio

from triosmtp.errors import TrioSMTPError
from triosmtp.message import Message
from triosmtp.message.envelope_document import encode_document, write_document
from triosmtp.message.spool import spool_limiter
from triosmtp.message.trace import separator

__all__ = ["BodyError", "FormBody"]

_PIECE: Final = 256 * 1024
_INLINE: Final = 64 * 1024  # octets of a body in memory that are hashed without a thread


class BodyError(TrioSMTPError):
    """The spool file of a message cannot be read."""


class FormBody:
    """The body of the request for one message.  Make it with :meth:`of`, which reads the message once."""

    def __init__(self, message: Message, before: bytes, envelope: bytes) -> None:
        self._message = message
        self._before = before
        self.boundary = secrets.token_hex(24)
        begin = (
            f"--{self.boundary}\r\n"
            'Content-Disposition: form-data; name="envelope"\r\n'
            "Content-Type: application/json\r\n\r\n"
        )
        middle = (
            f"\r\n--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="message"; filename="{message.id}.eml"\r\n'
            "Content-Type: message/rfc822\r\n\r\n"
        )
        self._head = begin.encode("ascii") + envelope + middle.encode("ascii") + before
        self._tail = f"\r\n--{self.boundary}--\r\n".encode("ascii")
        self.size = len(self._head) + message.body.size + len(self._tail)
        """The octets of the whole body."""

    @classmethod
    async def of(cls, message: Message, node: str) -> "FormBody":
        """Return the body for ``message``; ``node`` names this server in the envelope.

        :raises BodyError: if the spool file cannot be read.
        """
        before = message.trace + separator(message.body.head)
        digest = hashlib.sha256(before)
        await _feed(message, digest.update)
        size = len(before) + message.body.size
        document = write_document(message, node=node, size=size, sha256=digest.hexdigest())
        return cls(message, before, encode_document(document))

    @property
    def content_type(self) -> str:
        """The value of Content-Type."""
        return f"multipart/form-data; boundary={self.boundary}"

    async def feed(self, update: Callable[[bytes], None]) -> None:
        """Call ``update`` with all octets of the body, in parts; in a thread if they are many.

        :raises BodyError: if the spool file cannot be read.
        """
        update(self._head)
        await _feed(self._message, update)
        update(self._tail)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in parts.

        :raises SpoolError: if the spool file cannot be read.
        """
        yield self._head
        async with aclosing(self._message.body.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk
        yield self._tail


async def _feed(message: Message, update: Callable[[bytes], None]) -> None:
    """Call ``update`` with the octets of the message as the client sent it."""
    body = message.body
    if body.in_memory and body.size <= _INLINE:
        update(body.head)
        return
    try:
        await trio.to_thread.run_sync(partial(_read, message, update), limiter=spool_limiter())
    except OSError as error:
        raise BodyError(f"spool file: {error.strerror}") from None


def _read(message: Message, update: Callable[[bytes], None]) -> None:
    """Read the message.  It blocks."""
    left = message.body.size
    with message.body.open() as reader:
        while left > 0:
            piece = reader.read(min(_PIECE, left))
            if not piece:
                raise OSError(0, f"the file ends {left} octets early")
            update(piece)
            left -= len(piece)
