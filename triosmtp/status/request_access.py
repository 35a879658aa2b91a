"""Who may look, and under which name: what is demanded of every request before anything is answered.

A page in somebody's browser must not read what the server shows to that browser's host alone: a name of a stranger's
that is made to point here (DNS rebinding) is refused by the ``Host`` field, and beyond that the answers forbid to be
framed or shared.
"""

import hmac
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from attrs import field, frozen

from triosmtp.config import Listen, Settings, TCPAddress
from triosmtp.domain import DomainError, domain_key
from triosmtp.status.asgi import Application, Message, Receive, Scope, Send

__all__ = ["Access", "Guard", "Refusal", "bearer", "header"]

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Of every answer that does not say otherwise."""


@frozen(slots=True)
class Access:
    """What one Listen demands."""

    listen: str
    host: str | None
    """The address that it is bound to; None for every address, and for a Unix socket."""
    names: frozenset[str]
    token: str | None = field(default=None, repr=False)
    """Who shows it may look; where there is none, everybody may who can come."""

    @classmethod
    def of(cls, listen: Listen, settings: Settings, token: str | None) -> "Access":
        """Give what a Listen with these settings demands."""
        host = listen.address.host if isinstance(listen.address, TCPAddress) else None
        names = frozenset(map(domain_key, settings.host_names))
        return cls(listen.name, host, names, token)

    def takes_host(self, value: bytes) -> bool:
        """Whether a request may ask for this ``Host``: an address of ours, localhost, or a name of Host_Names."""
        text = value.decode("ascii", "replace").lower()
        if text.startswith("["):
            name, _, port = text[1:].partition("]")
        else:
            name, _, port = text.partition(":")
            port = f":{port}" if port else ""
        if port and not (port[0] == ":" and port[1:].isdecimal()):
            return False
        try:
            address = ip_address(name)
        except ValueError:
            return _key(name.removesuffix(".")) in self.names | {"localhost"}
        # No name, so nobody can have pointed it here.
        return address.is_loopback or self.host in {None, str(address)}

    def takes_token(self, given: bytes) -> bool:
        """Whether ``given`` is the token.  Takes the same time whatever it is."""
        return self.token is not None and hmac.compare_digest(given, self.token.encode("ascii"))


def _key(name: str) -> str | None:
    try:
        return domain_key(name)
    except DomainError:
        return None


def header(scope: Scope, name: bytes) -> bytes | None:
    """Give a header field of a request, its name in lower case; None where it is missing or stands there twice."""
    found = [value for each, value in scope["headers"] if each == name]
    return found[0] if len(found) == 1 else None


def bearer(access: Access, scope: Scope) -> bool:
    """Whether the request shows the token as ``Authorization: Bearer`` (RFC 6750)."""
    scheme, _, given = (header(scope, b"authorization") or b"").partition(b" ")
    return scheme.lower() == b"bearer" and access.takes_token(given.strip())


Credential = Callable[[Access, Scope], bool]
"""A way to show the token: whether this request does."""


@frozen(slots=True)
class Refusal:
    """The answer to a request that is not let in."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_STRANGE_NAME: Final = Refusal(421, b"This name is not served here; Host_Names tells which are.\n")
_NO_TOKEN: Final = Refusal(401, b"A token is needed.\n", ((b"www-authenticate", b"Bearer"),))


class Guard:
    """An application in front of another one: lets in who may come, and completes the headers of every answer.

    ``open_paths`` are answered without the token; ``credentials`` are the ways to show it.
    """

    def __init__(
        self,
        application: Application,
        access: Access,
        *,
        credentials: Iterable[Credential] = (bearer,),
        open_paths: Iterable[str] = (),
    ) -> None:
        self._application = application
        self._access = access
        self._credentials = tuple(credentials)
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers") or ())
                present = {name.lower() for name, _ in given}
                message["headers"] = [*given, *(each for each in _HEADERS if each[0] not in present)]
            await send(message)

        refusal = self.refusal(scope)
        if refusal is not None:
            await _refuse(complete, refusal)
        else:
            await self._application(scope, receive, complete)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is not let in; None where it is.  To be asked again while an answer goes on."""
        access = self._access
        host = header(scope, b"host")
        if host is None or not access.takes_host(host):
            return _STRANGE_NAME
        if access.token is None or scope["path"] in self._open_paths:
            return None
        return None if any(shows(access, scope) for shows in self._credentials) else _NO_TOKEN


async def _refuse(send: Send, refusal: Refusal) -> None:
    length = b"%d" % len(refusal.body)
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length), *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": fields})
    await send({"type": "http.response.body", "body": refusal.body})
