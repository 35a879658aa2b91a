"""Access of policy clients: which of them may connect, and which may make requests that need the admin token."""

import hmac
from collections.abc import Collection, Iterable

from attrs import field, frozen

from triosmtp.policy_service.json_rpc import PROTOCOL

__all__ = ["ClientAccess", "UpgradeRefusedError", "authorize", "token_matches"]


@frozen(slots=True, kw_only=True)
class ClientAccess:
    """The endpoint to which a client connected, and the proofs that the endpoint demands."""

    listener: str
    """The name of the Listen, as it is written."""
    peer: str
    """The address of the client, or ``unix``."""
    local: bool = False
    """Whether it is a Unix socket.  Its mode and the peer credentials replace a token."""
    encrypted: bool = False
    """Whether the connection uses TLS."""
    certificate: bool | None = None
    """Whether the certificate of the client is verified; None if the client presented none."""
    body_limit: int = 1024 * 1024
    """Bytes of a message that the client may read (Body_Limit)."""
    token: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)

    @property
    def private(self) -> bool:
        """Whether nobody can read the connection.  Passwords and bodies are sent only then."""
        return self.local or self.encrypted


class UpgradeRefusedError(Exception):
    """A client may not connect: the HTTP status of the response, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


def authorize(access: ClientAccess, headers: Iterable[tuple[bytes, bytes]], subprotocols: Collection[str]) -> bool:
    """Return whether a client may make requests that need the admin token.

    ``headers`` (names in lower case) and ``subprotocols`` are those of the HTTP request for the upgrade.

    :raises UpgradeRefusedError: if the client may not connect.
    """
    if access.certificate is False:
        raise UpgradeRefusedError(403, "the client certificate does not verify")
    headers = tuple(headers)
    # Only the Authorization field counts. A page can choose URL, subprotocol and Basic credentials, and sends cookies.
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) > 1:
        raise UpgradeRefusedError(400, "the Authorization field stands twice")
    scheme, _, rest = (given[0] if given else b"").partition(b" ")
    token = rest.strip() if scheme.lower() == b"bearer" else b""
    admin = token_matches(token, access.admin_token)
    known = admin or token_matches(token, access.token)
    if not known and any(name == b"origin" for name, _ in headers):
        # A page in a browser has the certificate of that browser and its access to this host. No page can set the
        # Authorization field of a websocket, so a client that sends both is not a page.
        reason = "browsers are not served; a program that sends Origin needs Authorization: Bearer"
        raise UpgradeRefusedError(403, reason)
    if token and not known and not (access.token is None and access.local):
        raise UpgradeRefusedError(401, "the token is not known")
    if not (known or access.local or access.certificate):
        raise UpgradeRefusedError(401, "a token is needed")
    if PROTOCOL not in subprotocols:
        raise UpgradeRefusedError(400, f"the subprotocol is {PROTOCOL}")
    return admin


def token_matches(given: bytes, expected: str | None) -> bool:
    """Compare two tokens in constant time.  An empty or missing token never matches."""
    return bool(given and expected) and hmac.compare_digest(given, (expected or "").encode())
