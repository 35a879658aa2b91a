"""The view that policies have of one SMTP session: values and the two contexts, without the stream."""

import logging
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from triosmtp.message.trace import ReceivedStart
from triosmtp.policy.auth_attempt import Authenticated
from triosmtp.session_info import SessionInfo
from triosmtp.smtp import CapabilityChanges, Reply
from triosmtp.variables import TLSInfo, Variables

if TYPE_CHECKING:  # `triosmtp check` makes no message
    from triosmtp.message import Envelope

__all__ = ["Session"]

_log = logging.getLogger("triosmtp.policy")

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}").fullmatch  # RFC 5322, section 3.6.8


class Session:
    """One SMTP session, as policies see it.

    Only the server assigns the attributes.  A policy reads them, and writes to ``variables`` and ``message_variables``.
    """

    # Without __slots__: most sessions change few of these defaults.
    is_proxied: bool = False
    """Whether a trusted peer has announced the client (XCLIENT, XREMOTEIP)."""
    auth: Authenticated | None = None
    """The user as which the client has authenticated; None if it has not."""
    envelope: "Envelope | None" = None
    """The sender and the recipients so far of the transaction; None outside of a transaction."""
    capabilities: CapabilityChanges | None = None
    """The changes of the reply to EHLO (see :meth:`add_capability`); None if there are none."""
    accept_reply: Reply | None = None
    """The positive reply that a policy of the current phase wants in place of the usual one."""
    is_leaving: Callable[[], bool] | None = None
    """Tells a policy that holds a reply back whether it should stop: the client has gone, or the server ends."""
    in_transaction: bool = False
    """Whether a message is under way: from MAIL, before policies are asked about it, to its end."""
    received_start: "tuple[object, ReceivedStart] | None" = None
    """The part of Received that the messages share, behind what it depends on."""
    decider: str = ""
    """The source of the latest decision, if the policy let others decide; else ``""`` for its own source."""
    transactions: int = 0
    """Transactions that were begun; they number the messages."""
    failures: int = 0
    """The number of exceptions that policies raised: only the first of them are logged."""
    _at_end: list[Callable[[], None]] | None = None
    _info: SessionInfo | None = None

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the name of the attribute
        listener: str,
        peer: str,
        peer_address: IPv4Address | IPv6Address | None,
        local: str,
        variables: Variables | None = None,
        tls: TLSInfo | None = None,
    ) -> None:
        self.id = id
        self.listener = listener
        """The Listen's name, as it is written in the configuration."""
        self.peer = peer
        """``192.0.2.7:53211``, ``[2001:db8::7]:53211``, or ``unix``."""
        self.peer_address = peer_address
        """The address of the client; None on a Unix socket.  An IPv4-mapped IPv6 address is an IPv4 address here."""
        self.local = local
        self.variables = Variables() if variables is None else variables
        """The connection context, for the time of the connection; STARTTLS removes what the client said before it."""
        self.message_variables = Variables()
        """The message context: emptied for each message."""
        self.connection_tls = tls
        """The TLS handshake with the peer that connected; :attr:`tls` is what it proves about the client."""
        self.headers: list[tuple[str, str]] = []
        """Header fields for every message of the session (see :meth:`add_header`)."""
        self.message_headers: list[tuple[str, str]] = []
        """Header fields for the message under way."""

    @property
    def info(self) -> SessionInfo:
        """The reference to the session in its events: the same value until :meth:`renew_info`."""
        info = self._info
        if info is None:
            info = self._info = SessionInfo(id=self.id, peer=self.peer, local=self.local, listener=self.listener)
        return info

    def renew_info(self) -> None:
        """Make :attr:`info` again, since ``peer`` or ``local`` has changed.  Not for policies."""
        self._info = None

    def call_at_end(self, function: Callable[[], None]) -> None:
        """Call ``function`` when the session is over, for what a policy holds for it.  It must not wait."""
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(function)

    def release(self) -> None:
        """Call what :meth:`call_at_end` took, the last one first.  An exception is logged.  Not for policies."""
        while self._at_end:
            function = self._at_end.pop()
            try:
                function()
            except Exception:  # noqa: BLE001 - whatever it is, the session ends and the others are called
                _log.exception("session %s: an error in what a policy does at its end", self.id)

    @property
    def tls(self) -> TLSInfo | None:
        """The result of the TLS handshake; None without TLS.

        If a trusted peer has announced the client, the certificate is that of the peer and proves nothing about the
        client: then there is no certificate here.
        """
        tls = self.connection_tls
        return tls if tls is None or not self.is_proxied else tls.without_client("the peer speaks for another client")

    @property
    def client_name(self) -> str:
        """The name of the client, from a trusted peer (XCLIENT) or confirmed by Client_Name; else ``unknown``."""
        return self.variables.get("xclient_name") or self.variables.get("client_name") or "unknown"

    @property
    def reverse_client_name(self) -> str:
        """The name that the DNS has for the client's address, which need not be its own; else ``unknown``."""
        variables = self.variables
        return variables.get("xclient_reverse_name") or variables.get("reverse_client_name") or self.client_name

    def add_capability(self, line: str) -> None:
        """Add a line to the reply to EHLO: a keyword, and perhaps its parameters.

        triosmtp does nothing else for such an extension.  This is for ``connect`` and ``ehlo``.  A change lasts for the
        connection; STARTTLS undoes those of ``ehlo``.

        :raises ValueError: if it is no such line, or if there are too many.
        """
        self.capabilities = (self.capabilities or CapabilityChanges()).with_added(line)

    def remove_capability(self, keyword: str) -> None:
        """Remove an extension from the reply to EHLO, and refuse its commands and parameters.

        It holds as long as in :meth:`add_capability`.

        :raises ValueError: if it is not a keyword of EHLO.
        """
        self.capabilities = (self.capabilities or CapabilityChanges()).with_removed(keyword)

    def add_header(self, name: str, value: str) -> None:
        """Add a header field to the message under way; outside of a transaction, to every message of the session.

        It is delivered after the Received field and before the header of the message.  It is folded, and control
        characters are replaced.

        :raises ValueError: if ``name`` is not the name of a header field (RFC 5322, section 3.6.8).
        """
        if not _FIELD_NAME(name):
            raise ValueError(f"{name!r} is not the name of a header field")
        (self.message_headers if self.in_transaction else self.headers).append((name, value))
