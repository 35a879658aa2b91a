"""The policy that asks the deciders of a group: it makes a question of a phase, and applies the verdict."""

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from triosmtp.errors import Reject
from triosmtp.message import Message, Recipient
from triosmtp.policy.auth_attempt import AuthAttempt
from triosmtp.policy.interface import DISCARD, DONE, Done, Phase, Policy
from triosmtp.policy.policy_session import Session
from triosmtp.policy_service.question import Fallback, Question, decider_source
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

if TYPE_CHECKING:
    from triosmtp.policy_service.hub import Hub

__all__ = ["WebsocketPolicy", "header_fields", "make_question"]

_MAX_HEADER: Final = 65536
"""Bytes of the header of a message that deciders receive."""
_MAX_FIELDS: Final = 1000
"""Fields of the header that deciders receive.  Their encoding takes time of the event loop."""
_BLANKS: Final = " \t\r"

_numbers = count(1)


def make_question(phase: Phase, session: Session, *arguments: Any) -> Question:
    """Return the question of a phase; ``arguments`` are those of the policy methods after the session."""
    password = arguments[0].password if phase == "auth" else None
    return Question(
        id=f"{session.id}-{next(_numbers):x}",
        session=session.id,
        phase=phase,
        peer=session.peer,
        listener=session.listener,
        local=session.local,
        variables=session.variables.snapshot(),
        message_variables=session.message_variables.snapshot(),
        arguments=_question_arguments(phase, arguments),
        password=password,
    )


def _question_arguments(phase: Phase, given: tuple[Any, ...]) -> dict[str, Any]:
    match phase:
        case "ehlo":
            return {"domain": given[0]}
        case "auth":
            return {"mechanism": given[0].mechanism, "user": given[0].user}
        case "mailfrom":
            return {"sender": str(given[0]), "parameters": dict(given[1])}
        case "rcptto":
            return {"recipient": str(given[0]), "parameters": dict(given[1])}
        case "data_spool":
            return {"size": given[0].size, **header_fields(given[0].body.headers())}
        case "data_spool_each_rcpt":
            return {"recipient": str(given[1])}
        case _:
            return {}


def header_fields(block: bytes) -> dict[str, Any]:
    """Return ``headers``: the fields of a header block, unfolded, in their order.  Other lines are omitted.

    ``headers_truncated`` is true if a limit was reached.
    """
    # Only CR LF and LF end a line of a message. str.splitlines() also splits at a vertical tab and at U+0085.
    text = (
        block[:_MAX_HEADER].decode("utf-8", "replace").replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", "\t")
    )
    lines = text.split("\n", _MAX_FIELDS)
    fields = []
    for line in lines[:_MAX_FIELDS]:
        name, colon, value = line.partition(":")
        if colon:
            fields.append([name.rstrip(_BLANKS), value.strip(_BLANKS)])
    truncated = len(block) > _MAX_HEADER or (len(lines) > _MAX_FIELDS and lines[-1] != "")
    return {"headers": fields} | ({"headers_truncated": True} if truncated else {})


class WebsocketPolicy(Policy):
    """The policy that :meth:`triosmtp.policy_service.hub.Hub.policy` returns."""

    def __init__(self, hub: "Hub", group: str, timeout: float, fallbacks: Mapping[Phase, Fallback]) -> None:
        self._hub = hub
        self._group = group
        self._timeout = timeout
        self._fallbacks = fallbacks

    @property
    def source(self) -> str:
        """``websocket:GROUP``."""
        return decider_source(self._group)

    async def _ask(self, phase: Phase, session: Session, *arguments: Any) -> Done | None:
        hub = self._hub
        if not hub.wants(self._group, phase):
            return None
        question = make_question(phase, session, *arguments)
        offered = hub.offer_body(question.id, arguments[0].body) if phase == "data_spool" else nullcontext()
        with offered:
            verdict = await hub.decide(self._group, question, timeout=self._timeout, fallback=self._fallbacks[phase])
        if verdict.set_connection:
            session.variables.apply(verdict.set_connection)
        if verdict.set_message:
            session.message_variables.apply(verdict.set_message)
        for name, value in verdict.add_headers:
            session.add_header(name, value)
        if verdict.code:
            raise Reject(
                verdict.code,
                verdict.enhanced,
                verdict.text,
                reason=f"fallback: {verdict.failure}" if verdict.failure else None,
                decided_by=verdict.source,
            )
        session.decider = verdict.source
        if verdict.decision == "discard":
            return DISCARD
        return DONE if verdict.decision == "done" else None

    async def validate_connect(self, session: Session) -> Done | None:
        """Ask at ``connect``."""
        return await self._ask("connect", session)

    async def validate_ehlo(self, session: Session, domain: str) -> Done | None:
        """Ask at ``ehlo``."""
        return await self._ask("ehlo", session, domain)

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> Done | None:
        """Ask at ``starttls``; the variables contain the result of the handshake."""
        return await self._ask("starttls", session, tls)

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> Done | None:
        """Ask at ``auth``."""
        return await self._ask("auth", session, attempt)

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Ask at ``mailfrom``."""
        return await self._ask("mailfrom", session, sender, parameters)

    async def validate_rcptto(
        self, session: Session, recipient: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        """Ask at ``rcptto``."""
        return await self._ask("rcptto", session, recipient, parameters)

    async def validate_data(self, session: Session) -> Done | None:
        """Ask at ``data``."""
        return await self._ask("data", session)

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        """Ask at ``data_spool``."""
        return await self._ask("data_spool", session, message)

    async def validate_data_spool_each_rcpt(
        self, session: Session, message: Message, recipient: Recipient
    ) -> Done | None:
        """Ask at ``data_spool_each_rcpt``."""
        return await self._ask("data_spool_each_rcpt", session, message, recipient)
