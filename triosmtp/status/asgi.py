"""The words of ASGI (https://asgi.readthedocs.io), and an answer for whoever does not come as far as an application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

__all__ = ["Application", "Message", "Receive", "Scope", "Send", "refusal"]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_REASONS: Final = {400: b"Bad Request", 413: b"Content Too Large", 431: b"Request Header Fields Too Large",
                   500: b"Internal Server Error", 503: b"Service Unavailable"}  # fmt: skip


def refusal(status: int) -> bytes:
    """Give a whole answer that ends the connection."""
    reason = _REASONS.get(status, b"Error")
    head = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, reason, len(reason) + 1) + reason + b"\n"
