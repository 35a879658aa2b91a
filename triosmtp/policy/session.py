"""What a policy sees of one SMTP session: values and the two contexts, never the stream."""

from ipaddress import IPv4Address, IPv6Address

from attrs import Factory, define

from triosmtp.message import Envelope
from triosmtp.variables import TLSInfo, Variables

__all__ = ["Session"]


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
    tls: TLSInfo | None = None
    """What the handshake established; None while there is no TLS."""
    envelope: Envelope | None = None
    """Sender and recipients so far of the transaction under way; None outside of one."""
