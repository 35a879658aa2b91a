"""Access rules of every request: the token, and the name in the ``Host`` field.

A web page of another site must not read the status through the operator's browser.  A foreign name that resolves to
this address (DNS rebinding) is refused by the ``Host`` field.  Header fields of the responses forbid framing and
sharing.
"""

import hmac
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from attrs import field, frozen

from triosmtp.config import Listen, Settings, TCPAddress
from triosmtp.domain import DomainError, domain_key
from triosmtp.status.asgi import Application, Message, Receive, Scope, Send

__all__ = ["AccessGuard", "AccessRules", "HTTPRefusal", "has_bearer_token", "header_field"]

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Header fields of every response that does not set them itself."""


@frozen(slots=True)
class AccessRules:
    """The access rules of one Listen."""

    listen: str
    host: str | None
    """The address of the Listen; None for all addresses, and for a Unix socket."""
    names: frozenset[str]
    token: str | None = field(default=None, repr=False)
    """The token that a request needs; None if it needs none."""

    @classmethod
    def of(cls, listen: Listen, settings: Settings, token: str | None) -> "AccessRules":
        """Return the access rules of a Listen with these settings."""
        host = listen.address.host if isinstance(listen.address, TCPAddress) else None
        names = frozenset(map(domain_key, settings.host_names))
        return cls(listen.name, host, names, token)

    def accepts_host(self, value: bytes) -> bool:
        """Check the ``Host`` of a request: an address of this host, localhost, or a name of Host_Names."""
        text = value.decode("ascii", "replace").lower()
        if text.startswith("["):
            name, bracket, port = text[1:].partition("]")
            if not bracket:
                return False
        else:
            name, _, port = text.partition(":")
            port = f":{port}" if port else ""
        if port and not (port[0] == ":" and port[1:].isdecimal()):
            return False
        try:
            address = ip_address(name)
        except ValueError:
            return _key(name.removesuffix(".")) in self.names | {"localhost"}
        # An address cannot be used for DNS rebinding.
        return address.is_loopback or self.host in {None, str(address)}

    def accepts_token(self, token: bytes) -> bool:
        """Check a token, in constant time."""
        return self.token is not None and hmac.compare_digest(token, self.token.encode("ascii"))


def _key(name: str) -> str | None:
    try:
        return domain_key(name)
    except DomainError:
        return None


def header_field(scope: Scope, name: bytes) -> bytes | None:
    """Return the header field of a request with that lower-case name; None if it is missing or repeated."""
    found = [value for each, value in scope["headers"] if each == name]
    return found[0] if len(found) == 1 else None


def has_bearer_token(access: AccessRules, scope: Scope) -> bool:
    """Check that the request has the token in ``Authorization: Bearer`` (RFC 6750)."""
    scheme, _, token = (header_field(scope, b"authorization") or b"").partition(b" ")
    return scheme.lower() == b"bearer" and access.accepts_token(token.strip())


TokenCheck = Callable[[AccessRules, Scope], bool]
"""A check whether a request proves that its sender has the token."""


@frozen(slots=True)
class HTTPRefusal:
    """The response to a request that is refused."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNKNOWN_HOST: Final = HTTPRefusal(421, b"Unknown host name; see Host_Names.\n")
_NO_TOKEN: Final = HTTPRefusal(401, b"A token is needed.\n", ((b"www-authenticate", b"Bearer"),))


class AccessGuard:
    """ASGI middleware: refuse requests by the access rules, and add header fields to every response.

    ``open_paths`` need no token; one of ``token_checks`` must accept a request for another path.
    """

    def __init__(
        self,
        application: Application,
        access: AccessRules,
        *,
        token_checks: Iterable[TokenCheck] = (has_bearer_token,),
        open_paths: Iterable[str] = (),
    ) -> None:
        self._application = application
        self._access = access
        self._token_checks = tuple(token_checks)
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = list(message.get("headers") or ())
                present = {name.lower() for name, _ in fields}
                message["headers"] = [*fields, *(each for each in _HEADERS if each[0] not in present)]
            await send(message)

        refusal = self.refusal(scope)
        if refusal is not None:
            await _refuse(complete, refusal)
        else:
            await self._application(scope, receive, complete)

    def refusal(self, scope: Scope) -> HTTPRefusal | None:
        """Return the refusal of a request; None if it is allowed.  Long responses check it again."""
        access = self._access
        host = header_field(scope, b"host")
        if host is None or not access.accepts_host(host):
            return _UNKNOWN_HOST
        if access.token is None or scope["path"] in self._open_paths:
            return None
        return None if any(accepts(access, scope) for accepts in self._token_checks) else _NO_TOKEN


async def _refuse(send: Send, refusal: HTTPRefusal) -> None:
    length = b"%d" % len(refusal.body)
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length), *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": fields})
    await send({"type": "http.response.body", "body": refusal.body})
