"""Who has shown the token in a browser: a cookie that names a session of ours, and nothing else."""

import secrets
from collections import Counter, OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Final

import trio

from triosmtp.status.asgi import Scope
from triosmtp.status.request_access import Access, header

__all__ = ["COOKIE", "LIFE", "Logins"]

COOKIE: Final = "triosmtp_status"
LIFE: Final = 12 * 3600
"""Seconds that a login lasts."""
_MOST: Final = 100
"""Logins at once; the oldest gives way."""
_PENALTY: Final = 1.0
"""Seconds that the answer to a wrong token waits."""
_WAITING: Final = 16
"""Such answers at once; beyond that the answer is that there were too many."""
_WAITING_OF_ONE_PEER: Final = 4


class Logins:
    """The logins of one server.  They end with the process, with their time, and with the token that they showed."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()  # to the token shown, and their end
        self._waiting: Counter[str] = Counter()  # by peer

    def log_in(self, access: Access, given: str) -> str | None:
        """Give the value of the cookie for whoever shows the token, at once; or None."""
        if not access.takes_token(given.encode("utf-8", "replace")):
            return None
        name = secrets.token_urlsafe(32)
        self._known[name] = (access.token or "", trio.current_time() + LIFE)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return name

    async def hold_up(self, scope: Scope) -> bool:
        """Have whoever showed a wrong token wait; give False, at once, where too many do already."""
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._waiting.total() >= _WAITING or self._waiting[peer] >= _WAITING_OF_ONE_PEER:
            return False
        self._waiting[peer] += 1
        try:
            await trio.sleep(_PENALTY)
        finally:
            self._waiting[peer] -= 1
            if not self._waiting[peer]:
                del self._waiting[peer]
        return True

    def log_out(self, scope: Scope) -> None:
        """Forget the login of a request."""
        self._known.pop(_cookie(scope), None)

    def shows(self, access: Access, scope: Scope) -> bool:
        """Whether a request comes from somebody who has logged in here."""
        token, end = self._known.get(_cookie(scope), ("", 0.0))
        return bool(token) and token == access.token and trio.current_time() < end


def _cookie(scope: Scope) -> str:
    raw = header(scope, b"cookie")
    if raw is None or len(raw) > 4096:
        return ""
    try:
        morsel = SimpleCookie(raw.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value
