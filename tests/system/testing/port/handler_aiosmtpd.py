"""Before: a handler of aiosmtpd."""

from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tickets import BANNED, QUEUES, Ticket, ticket_of


class TicketHandler:
    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, mail_options: list[str]
    ) -> str:
        if address in BANNED:
            return "550 5.7.1 You are banned"
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        queue, _, domain = address.partition("@")
        if domain != "tickets.example":
            return "550 5.7.1 Relaying denied"
        if queue not in QUEUES:
            return "550 5.1.1 No such queue"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        author = session.auth_data.login.decode() if session.authenticated else None
        content = envelope.content
        if isinstance(content, str):
            content = content.encode()
        try:
            made = [
                ticket_of(address.partition("@")[0], envelope.mail_from or "", content or b"", author)
                for address in envelope.rcpt_tos
            ]
        except ValueError as error:
            return f"554 5.6.0 {error}"
        self.tickets += made
        return "250 OK"


class Users:
    def __init__(self, passwords: dict[str, str]) -> None:
        self.passwords = passwords

    def __call__(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        if mechanism not in {"LOGIN", "PLAIN"} or not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        if self.passwords.get(data.login.decode()) != data.password.decode():
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True, auth_data=data)
