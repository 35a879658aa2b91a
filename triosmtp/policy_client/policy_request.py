"""Arguments and results of a policy client's handlers: a request with typed views, a decision, a notification."""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import Factory, define, field, frozen

from triosmtp.errors import Reject
from triosmtp.policy.interface import DISCARD, DONE
from triosmtp.policy_service.question import DecisionWord

__all__ = ["Decision", "MessageBody", "Notification", "PolicyRequest", "TLSVariables", "make_result"]


@frozen(slots=True)
class TLSVariables:
    """The TLS variables of a session, each in its own type; what is not there is None, or false, or empty.

    ``verified`` is the only thing to base a right on: names in a certificate that did not verify are the peer's claim.
    """

    variables: Mapping[str, str]

    @property
    def on(self) -> bool:
        """Whether TLS is up."""
        return self.variables.get("tls") == "on"

    @property
    def verified(self) -> bool:
        """Whether the client's certificate verified in this very handshake."""
        return self.variables.get("tls_client_verified") == "yes"

    @property
    def verify_error(self) -> str | None:
        """Why it did not; ``no certificate presented`` if there was none; None without TLS (see :attr:`on`)."""
        return self.variables.get("tls_client_verify_error")

    @property
    def protocol(self) -> str | None:
        """``TLSv1.3``."""
        return self.variables.get("tls_protocol")

    @property
    def cipher(self) -> str | None:
        """The cipher suite's name."""
        return self.variables.get("tls_cipher")

    @property
    def cipher_bits(self) -> int | None:
        """Bits of the cipher that are really used."""
        return _integer(self.variables.get("tls_cipher_usebits"))

    @property
    def group(self) -> str | None:
        """The key-exchange group."""
        return self.variables.get("tls_group")

    @property
    def sni(self) -> str | None:
        """The server name that the client asked for."""
        return self.variables.get("tls_sni")

    @property
    def subject(self) -> str | None:
        """The client certificate's subject (RFC 4514)."""
        return self.variables.get("tls_client_cert_subject")

    @property
    def issuer(self) -> str | None:
        """Its issuer."""
        return self.variables.get("tls_client_cert_issuer")

    @property
    def fingerprint_sha256(self) -> str | None:
        """Its SHA-256 fingerprint, in lower-case hexadecimal."""
        return self.variables.get("tls_client_cert_fingerprint_sha256")

    @property
    def spki_sha256(self) -> str | None:
        """The SHA-256 of its public key."""
        return self.variables.get("tls_client_cert_spki_sha256")

    @property
    def sans(self) -> tuple[str, ...]:
        """Its alternative names, such as ``dns:mx.example.org``."""
        text = self.variables.get("tls_client_cert_sans", "")
        return tuple(text.split(",")) if text else ()

    @property
    def eku(self) -> str | None:
        """What its extended key usage lists: ``client``, ``server``, ``both``, ``any``, ``none``; None without one."""
        return self.variables.get("tls_client_eku")

    @property
    def not_before(self) -> datetime | None:
        """When it begins to be valid."""
        return _moment(self.variables.get("tls_client_cert_not_before"))

    @property
    def not_after(self) -> datetime | None:
        """When it ends to be valid."""
        return _moment(self.variables.get("tls_client_cert_not_after"))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None


@define(slots=True, eq=False)
class PolicyRequest:
    """One question: a phase of a session that is to be decided about."""

    id: str
    session: str
    phase: str
    peer: str
    listener: str
    variables: Mapping[str, str]
    """Those that were asked for, of the connection context."""
    message_variables: Mapping[str, str]
    arguments: Mapping[str, Any]
    """By the phase: ``domain``, ``sender``, ``recipient``, ``parameters``, ``size``, ``headers``, …"""
    deadline_ms: int
    """Milliseconds that were left when the server asked."""
    _fetch: Callable[..., Awaitable[dict[str, Any]]] | None = field(default=None, repr=False)
    _connection: dict[str, str | None] = field(init=False, factory=dict)
    _message: dict[str, str | None] = field(init=False, factory=dict)
    _headers: list[list[str]] = field(init=False, factory=list)

    @property
    def tls(self) -> TLSVariables:
        """The TLS variables, typed; those that were asked for."""
        return TLSVariables(self.variables)

    def set(self, **variables: str | None) -> None:
        """Set variables of the connection context; None removes one."""
        self._connection.update(variables)

    def set_message(self, **variables: str | None) -> None:
        """Set variables of the message context; None removes one."""
        self._message.update(variables)

    def add_header(self, name: str, value: str) -> None:
        """Add a header field to the message, or before MAIL to every message of the session."""
        self._headers.append([name, value])

    async def read_body(self, limit: int | None = None) -> "MessageBody":
        """Ask the server for the message, at ``data_spool``: part by part, up to its Body_Limit, or ``limit`` octets.

        It takes time of the answer's.  Only a decider in mode ``enforce`` may ask, by Unix socket or TLS.

        :raises PolicyRequestError: if the server refuses, or if the time for the answer is over.
        :raises trio.BrokenResourceError: if the connection is lost.
        """
        assert self._fetch is not None, "a client made this request"
        data, size, parts, number = bytearray(), 0, 1, 0
        while number < parts and (number == 0 or limit is None or len(data) < limit):
            part = await self._fetch("message.body", question=self.id, part=number)
            data += b64decode(part["data"])
            size, parts, number = part["size"], part["parts"], number + 1
        if limit is not None:
            del data[limit:]
        return MessageBody(bytes(data), size)

    def effects(self) -> dict[str, Any]:
        """Return what was set and added, as the protocol has it."""
        effects: dict[str, Any] = {}
        if self._connection or self._message:
            effects["set"] = {"connection": self._connection, "message": self._message}
        if self._headers:
            effects["add_headers"] = self._headers
        return effects


@frozen(slots=True)
class MessageBody:
    """A message as the client sent it, header and all, or its beginning; without Received and what policy adds."""

    data: bytes = field(repr=False)
    size: int
    """Octets of the whole message."""

    @property
    def truncated(self) -> bool:
        """Whether there is more of it than ``data``."""
        return len(self.data) < self.size


@frozen(slots=True)
class Decision:
    """A complete decision, if None, DONE, DISCARD or Reject cannot express it."""

    decision: DecisionWord = "continue"
    code: int | None = None
    enhanced: str | None = None
    text: str | None = None


@frozen(slots=True)
class Notification:
    """Something that happened."""

    method: str
    """``session.tls``, …"""
    params: Mapping[str, Any] = Factory(dict)

    @property
    def session(self) -> str | None:
        """The session that it is about, if it is about one."""
        session = self.params.get("session")
        return session if isinstance(session, str) else None

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that came with it."""
        variables = self.params.get("variables")
        return variables if isinstance(variables, dict) else {}

    @property
    def tls(self) -> TLSVariables:
        """The same, typed."""
        return TLSVariables(self.variables)


def make_result(request: PolicyRequest, answer: object) -> dict[str, Any]:
    """Return the result that says ``answer``: what a handler returned, or the Reject that it raised.

    :raises TypeError: if a handler returned something else.
    """
    if answer is None:
        result: dict[str, Any] = {"decision": "continue"}
    elif answer is DONE:
        result = {"decision": "done"}
    elif answer is DISCARD:
        result = {"decision": "discard"}
    elif isinstance(answer, Reject):
        result = {
            "decision": "reject",
            "code": answer.code,
            "enhanced": answer.enhanced,
            "text": " ".join(answer.text.split()),
        }
    elif isinstance(answer, Decision):
        given = {"code": answer.code, "enhanced": answer.enhanced, "text": answer.text}
        result = {"decision": answer.decision} | {name: value for name, value in given.items() if value is not None}
    else:
        raise TypeError(f"a handler returns None, DONE, DISCARD or a Decision, or raises Reject: not {answer!r}")
    return result | request.effects()
