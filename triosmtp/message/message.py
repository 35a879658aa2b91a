"""A message: its envelope and its spooled body.

The envelope is filled command by command.  Policies (at ``data_spool``) and the delivery get a :class:`Message`.
Neither sees the connection.
"""

from collections.abc import Mapping
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from attrs import Factory, define, field, frozen

from triosmtp.message.header_edits import HeaderEdits
from triosmtp.message.spool import Body
from triosmtp.smtp import Address, decode_orcpt, decode_xtext
from triosmtp.variables import DELIVER_TO, TLSInfo

__all__ = ["Envelope", "Message", "Origin", "Recipient"]


@frozen(slots=False)
class Recipient:
    """One accepted recipient: its address, and the ESMTP parameters of its RCPT command."""

    address: Address
    parameters: Mapping[str, str | None]

    def __str__(self) -> str:
        return self.address.text

    @property
    def notify(self) -> frozenset[str]:
        """When to send a report: of NEVER, SUCCESS, FAILURE, DELAY; empty without NOTIFY (RFC 3461)."""
        return frozenset(filter(None, (self.parameters.get("NOTIFY") or "").split(",")))

    @property
    def original(self) -> tuple[str, str] | None:
        """Type and address of ORCPT, decoded; None without ORCPT (RFC 3461, section 4.2; RFC 6533)."""
        value = self.parameters.get("ORCPT")
        return None if value is None else decode_orcpt(value)


@define(slots=True)
class Envelope:
    """The envelope (RFC 5321, section 2.3.1): the sender, its parameters, and the recipients.

    ``sender`` is false for the null reverse-path; ``parameters`` are those of MAIL.
    """

    sender: Address
    parameters: Mapping[str, str | None] = Factory(dict)
    recipients: list[Recipient] = Factory(list)

    @property
    def smtputf8(self) -> bool:
        """Whether the sender asked for SMTPUTF8 (RFC 6531)."""
        return "SMTPUTF8" in self.parameters

    @property
    def body_type(self) -> str:
        """``7BIT``, ``8BITMIME`` or ``BINARYMIME``: the type that the sender declared (RFC 6152, RFC 3030)."""
        return self.parameters.get("BODY") or "7BIT"

    @property
    def requiretls(self) -> bool:
        """Whether the message may be relayed over verified TLS only (RFC 8689)."""
        return "REQUIRETLS" in self.parameters

    @property
    def ret(self) -> str | None:
        """``FULL`` or ``HDRS``: the part of the message that a failure report holds (RFC 3461, section 4.3)."""
        return self.parameters.get("RET")

    @property
    def envid(self) -> str | None:
        """The envelope identifier of the sender, decoded (RFC 3461, section 4.4)."""
        value = self.parameters.get("ENVID")
        return None if value is None else decode_xtext(value)

    @property
    def deliver_by(self) -> tuple[int, str, bool] | None:
        """Seconds, mode (``N`` or ``R``), and whether a trace is requested (RFC 2852, section 4)."""
        value = self.parameters.get("BY")
        if value is None:
            return None
        seconds, _, mode = value.partition(";")
        return int(seconds), mode[0], mode.endswith("T")

    @property
    def priority(self) -> int:
        """The priority from -9 to 9; 0 without MT-PRIORITY (RFC 6710)."""
        return int(self.parameters.get("MT-PRIORITY") or 0)


@frozen(slots=True, kw_only=True)
class Origin:
    """The client that a message came from, for targets that tell others about it.

    Names and addresses are those of an announced client (PROXY, XCLIENT), if there is one.
    """

    session: str
    """The id of the session."""
    listen: str
    """The name of the Listen."""
    peer: str
    """The peer, as in logs: ``192.0.2.1:34567``."""
    address: IPv4Address | IPv6Address | None
    """Its address; None on a Unix socket."""
    name: str = ""
    """The name that was looked up for its address, if an announcement had one."""
    helo: str = ""
    """Its name in EHLO or HELO."""
    extended: bool = True
    """Whether that was EHLO."""
    auth_mechanism: str = ""
    """The mechanism of AUTH, if the client authenticated here."""
    auth_user: str = ""
    """The user, if the client authenticated here."""
    tls: TLSInfo | None = None
    """TLS of the connection."""


@define(slots=True, kw_only=True)
class Message:
    """A complete message.

    ``trace`` holds the header fields to put before the body, with CRLF, in their final order: Received and those that
    policies added.  Return-Path is not among them: it belongs to final delivery (RFC 5321, section 4.4).  ``body`` has
    the octets that the client sent.
    """

    id: str
    """The id of the message: the id of the session, a dash, and the number of the message in the session."""
    envelope: Envelope
    body: Body
    trace: bytes = b""
    received: datetime
    """The time at which the end of the body arrived, in UTC."""
    variables: Mapping[str, str] = Factory(dict)
    """The connection context at the time when the message was complete."""
    message_variables: Mapping[str, str] = Factory(dict)
    """The message context at that time."""
    part: int = 0
    """The number of this part, if the message was divided between recipients: each part has the same id."""
    origin: Origin | None = None
    """The client, if the delivery wants to know it."""
    has_session_headers: bool = False
    """Whether the header of ``body`` has the fields that policies added to every message of the session."""
    _edits: dict[int, tuple[Recipient, HeaderEdits]] | None = field(default=None, init=False, repr=False, eq=False)
    _choices: dict[int, tuple[Recipient, str | None]] | None = field(default=None, init=False, repr=False, eq=False)
    _replaced: dict[int, tuple[Recipient, Recipient]] | None = field(default=None, init=False, repr=False, eq=False)

    @property
    def size(self) -> int:
        """The octets of the body as it was received, without ``trace``."""
        return self.body.size

    def edits_of(self, recipient: Recipient) -> HeaderEdits:
        """Return the changes for one recipient alone, to add others; for policies at ``data_spool_each_rcpt``.

        The changes hold for ``body``, and are applied when the message is delivered.  Recipients with equal changes
        share one message.  ``recipient`` is the object in ``envelope.recipients``, or one that it has replaced.
        """
        recipient = self.current_recipient(recipient)
        if self._edits is None:
            self._edits = {}
        return self._edits.setdefault(id(recipient), (recipient, HeaderEdits()))[1]

    def choose_target(self, recipient: Recipient, name: str | None) -> None:
        """Deliver to one recipient by the Delivery ``name``; None: by its Domain, or the Deliver_To of the connection.

        A policy sets the message variable ``deliver_to`` at ``data_spool_each_rcpt`` for that.
        """
        recipient = self.current_recipient(recipient)
        if self._choices is None:
            self._choices = {}
        self._choices[id(recipient)] = (recipient, name)

    def chosen_targets(self) -> list[str | None]:
        """Return for each recipient the Delivery that policy chose: for it, or for the message; None if for neither."""
        usual, choices = self.message_variables.get(DELIVER_TO), self._choices or {}
        return [choices.get(id(each), (each, usual))[1] for each in self.envelope.recipients]

    def current_recipient(self, recipient: Recipient) -> Recipient:
        """Return what is in the place of ``recipient`` now; itself if it was not replaced."""
        while self._replaced is not None and id(recipient) in self._replaced:
            recipient = self._replaced[id(recipient)][1]
        return recipient

    def replace_recipient(self, recipient: Recipient, address: Address) -> Recipient:
        """Put another address in the place of a recipient; return the new one.

        It keeps the parameters, the changes and the target of the recipient.

        :raises ValueError: if the envelope does not have ``recipient``: the same object, or one that it has replaced.
        """
        recipients, recipient = self.envelope.recipients, self.current_recipient(recipient)
        at = next((number for number, each in enumerate(recipients) if each is recipient), None)
        if at is None:
            raise ValueError(f"{recipient} is not a recipient of the message")
        recipients[at] = replacement = Recipient(address, recipient.parameters)
        self._replaced = self._replaced or {}
        self._replaced[id(recipient)] = (recipient, replacement)
        if self._edits is not None and id(recipient) in self._edits:
            self._edits[id(replacement)] = (replacement, self._edits.pop(id(recipient))[1])
        if self._choices is not None and id(recipient) in self._choices:
            self._choices[id(replacement)] = (replacement, self._choices.pop(id(recipient))[1])
        return replacement

    @property
    def has_variants(self) -> bool:
        """Whether a recipient has changes or a target of its own."""
        return bool(self._choices) or (self._edits is not None and any(edits for _, edits in self._edits.values()))

    def variants(self) -> list[tuple[HeaderEdits | None, list[int]]]:
        """Return the different messages: changes, None for no change, and the numbers of the recipients."""
        if self._edits is None:
            return [(None, list(range(len(self.envelope.recipients))))]
        found: dict[object, tuple[HeaderEdits | None, list[int]]] = {}
        for number, recipient in enumerate(self.envelope.recipients):
            _, edits = self._edits.get(id(recipient), (None, None))
            key = (tuple(edits.operations), id(edits.new_body)) if edits else None
            found.setdefault(key, (edits or None, []))[1].append(number)
        return list(found.values())
