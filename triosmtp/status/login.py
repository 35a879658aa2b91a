"""Logins of browsers that have sent the token: a cookie names the login, and holds nothing else."""

import secrets
from collections import Counter, OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Final

import trio

from triosmtp.status.asgi import Scope
from triosmtp.status.request_access import AccessRules, header_field

__all__ = ["COOKIE", "LOGIN_SECONDS", "Logins"]

COOKIE: Final = "triosmtp_status"
LOGIN_SECONDS: Final = 12 * 3600
"""Seconds that a login lasts."""
_MAX_LOGINS: Final = 100
"""Logins at once; a new one replaces the oldest."""
_DELAY: Final = 1.0
"""Seconds before the response to a wrong token."""
_MAX_DELAYED: Final = 16
"""Delayed responses at once; beyond that the response is 429."""
_MAX_DELAYED_PER_PEER: Final = 4


class Logins:
    """The logins of one server.  A login ends with the process, after its time, and if the token changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the token that was sent, and the end
        self._delayed: Counter[str] = Counter()  # by peer

    def log_in(self, access: AccessRules, token: str) -> str | None:
        """Return the value of a new cookie if ``token`` is right, else None."""
        if not access.accepts_token(token.encode("utf-8", "replace")):
            return None
        name = secrets.token_urlsafe(32)
        self._known[name] = (access.token or "", trio.current_time() + LOGIN_SECONDS)
        if len(self._known) > _MAX_LOGINS:
            self._known.popitem(last=False)
        return name

    async def delay(self, scope: Scope) -> bool:
        """Delay the response to a wrong token; return False at once if too many are delayed already."""
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._delayed.total() >= _MAX_DELAYED or self._delayed[peer] >= _MAX_DELAYED_PER_PEER:
            return False
        self._delayed[peer] += 1
        try:
            await trio.sleep(_DELAY)
        finally:
            self._delayed[peer] -= 1
            if not self._delayed[peer]:
                del self._delayed[peer]
        return True

    def log_out(self, scope: Scope) -> None:
        """Delete the login of a request."""
        self._known.pop(_cookie(scope), None)

    def is_logged_in(self, access: AccessRules, scope: Scope) -> bool:
        """Check that a request has the cookie of a login."""
        token, end = self._known.get(_cookie(scope), ("", 0.0))
        return bool(token) and token == access.token and trio.current_time() < end


def _cookie(scope: Scope) -> str:
    raw = header_field(scope, b"cookie")
    if raw is None or len(raw) > 4096:
        return ""
    try:
        morsel = SimpleCookie(raw.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value
