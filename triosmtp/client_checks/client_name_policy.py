"""The policy that writes the name of the client into the connection context (Client_Name)."""

from collections.abc import Mapping

from triosmtp.client_checks.client_name import find_client_name
from triosmtp.dns_client import DNSResolver
from triosmtp.policy import Done, Policy, Session
from triosmtp.smtp import Address

__all__ = ["ClientNamePolicy"]

_NAME, _REVERSE, _ADDRESS = "client_name", "reverse_client_name", "client_name_of"


class ClientNamePolicy(Policy):
    """Writes ``client_name`` and ``reverse_client_name``; each is ``unknown`` if there is none.

    It asks at connect, and at MAIL if a trusted peer has announced another client since.
    """

    def __init__(self, resolver: DNSResolver, seconds: float) -> None:
        self._resolver = resolver
        self._seconds = seconds

    @property
    def source(self) -> str:
        """``Client_Name``."""
        return "Client_Name"

    async def validate_connect(self, session: Session) -> Done | None:
        """Look up the name of the client."""
        address = session.peer_address
        if address is not None:
            name = await find_client_name(self._resolver, address, self._seconds)
            session.variables.record({_NAME: name.confirmed, _REVERSE: name.reverse, _ADDRESS: str(address)})
        return None

    async def validate_mailfrom(
        self, session: Session, _sender: Address, _parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Look up the name of a client that was announced."""
        if session.is_proxied and session.variables.get(_ADDRESS) != str(session.peer_address):
            return await self.validate_connect(session)
        return None
