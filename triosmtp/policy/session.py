"""What a policy sees of one SMTP session: values and the two contexts, never the stream."""

import re
from ipaddress import IPv4Address, IPv6Address

from attrs import Factory, define, field

from triosmtp.event import SessionInfo
from triosmtp.message import Envelope
from triosmtp.policy.attempt import Authenticated
from triosmtp.variables import TLSInfo, Variables

__all__ = ["Session"]

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}").fullmatch  # RFC 5322, section 3.6.8


@define(slots=True, eq=False, kw_only=True)
class Session:
    """One SMTP session, as policies see it.

    The server alone assigns the attributes; a policy reads them and writes into ``variables`` and
    ``message_variables``.
    """

    id: str
    listener: str
    """The Listen's name, as it is written in the configuration."""
    peer: str
    """``192.0.2.7:53211``, ``[2001:db8::7]:53211``, or ``unix``."""
    peer_address: IPv4Address | IPv6Address | None
    """None on a Unix socket; an IPv4-mapped IPv6 address is given as IPv4."""
    local: str
    variables: Variables = Factory(Variables)
    """The connection context: lives as long as the connection, but STARTTLS clears what was learnt before it."""
    message_variables: Variables = Factory(Variables)
    """The message context: emptied for each message."""
    connection_tls: TLSInfo | None = field(default=None, alias="tls")
    """What the handshake established with the peer that connected; see :attr:`tls` for what it says of the client."""
    is_proxied: bool = False
    """Whether a trusted peer has announced the client (XCLIENT, XREMOTEIP)."""
    auth: Authenticated | None = None
    """Who the client has proved to be by AUTH; None while it has not."""
    envelope: Envelope | None = None
    """Sender and recipients so far of the transaction under way; None outside of one."""
    headers: list[tuple[str, str]] = Factory(list)
    """Header fields that every message of the session gets (see :meth:`add_header`)."""
    message_headers: list[tuple[str, str]] = Factory(list)
    """Header fields that the message under way gets."""
    in_transaction: bool = field(default=False, init=False, repr=False)
    """Whether a message is under way: from MAIL, before policy is asked about it, to its end."""
    decider: str = field(default="", init=False, repr=False)
    """Who decided for the policy that was asked last, if it asks others; its :attr:`Policy.source` otherwise."""
    failures: int = field(default=0, init=False, repr=False)
    """Exceptions that policies raised in it: only the first of them are logged."""
    _info: SessionInfo | None = field(default=None, init=False, repr=False)

    @property
    def info(self) -> SessionInfo:
        """What the events of the session say of it: one value until its ``peer`` or ``local`` changes."""
        info = self._info
        if info is None or info.peer is not self.peer or info.local is not self.local:
            info = self._info = SessionInfo(id=self.id, peer=self.peer, local=self.local, listener=self.listener)
        return info

    @property
    def tls(self) -> TLSInfo | None:
        """What the handshake established; None while there is no TLS.

        If a trusted peer speaks for the client, the certificate is that peer's and proves nothing of the client: then
        there is none here.
        """
        tls = self.connection_tls
        return tls if tls is None or not self.is_proxied else tls.without_client("the peer speaks for another client")

    def add_header(self, name: str, value: str) -> None:
        """Add a header field to the message under way; outside of a transaction, to every message of the session.

        It is delivered behind our Received field and in front of the message's own header, folded and cleaned of
        control characters.

        :raises ValueError: where ``name`` is not the name of a header field (RFC 5322, section 3.6.8).
        """
        if not _FIELD_NAME(name):
            raise ValueError(f"{name!r} is not the name of a header field")
        (self.message_headers if self.in_transaction else self.headers).append((name, value))
