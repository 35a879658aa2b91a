"""Types of ASGI (https://asgi.readthedocs.io), and responses to requests that do not reach the application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

__all__ = ["Application", "Message", "Receive", "Scope", "Send", "error_response"]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_REASONS: Final = {400: b"Bad Request", 413: b"Content Too Large", 431: b"Request Header Fields Too Large",
                   500: b"Internal Server Error", 503: b"Service Unavailable"}  # fmt: skip


def error_response(status: int) -> bytes:
    """Return a complete response that ends the connection."""
    reason = _REASONS.get(status, b"Error")
    head = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, reason, len(reason) + 1) + reason + b"\n"
