"""A policy that records what it is asked, and answers as a test tells it to."""

from collections.abc import Mapping

from triosmtp.errors import Reject
from triosmtp.message import Message, Recipient
from triosmtp.policy import AuthAttempt, Done, Phase, Policy, Session
from triosmtp.smtp import Address
from triosmtp.variables import TLSInfo

__all__ = ["RecordingPolicy"]


class RecordingPolicy(Policy):
    """Records ``(phase, arguments, variables)`` of each call in ``calls``.

    ``answers`` maps a phase to what happens there: an exception (a Reject, or any other) to raise, or DONE to return.
    """

    def __init__(self, answers: Mapping[Phase, Reject | Exception | Done] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[tuple[Phase, tuple[object, ...], dict[str, str]]] = []

    @property
    def phases(self) -> list[Phase]:
        """The phases asked, in order."""
        return [phase for phase, _, _ in self.calls]

    def _record(self, phase: Phase, session: Session, *arguments: object) -> Done | None:
        variables = {**session.variables, **session.message_variables}
        self.calls.append((phase, arguments, variables))
        answer = self.answers.get(phase)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def validate_connect(self, session: Session) -> Done | None:
        return self._record("connect", session)

    async def validate_ehlo(self, session: Session, domain: str) -> Done | None:
        return self._record("ehlo", session, domain)

    async def validate_starttls(self, session: Session, tls: TLSInfo) -> Done | None:
        return self._record("starttls", session, tls)

    async def validate_auth(self, session: Session, attempt: AuthAttempt) -> Done | None:
        return self._record("auth", session, attempt)

    async def validate_mailfrom(
        self, session: Session, sender: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        return self._record("mailfrom", session, sender, parameters)

    async def validate_rcptto(
        self, session: Session, recipient: Address, parameters: Mapping[str, str | None]
    ) -> Done | None:
        return self._record("rcptto", session, recipient, parameters)

    async def validate_data(self, session: Session) -> Done | None:
        return self._record("data", session)

    async def validate_data_spool(self, session: Session, message: Message) -> Done | None:
        return self._record("data_spool", session, message)

    async def validate_data_spool_each_rcpt(
        self, session: Session, message: Message, recipient: Recipient
    ) -> Done | None:
        return self._record("data_spool_each_rcpt", session, message, recipient)
