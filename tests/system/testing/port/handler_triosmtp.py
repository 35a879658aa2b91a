"""After: a policy that decides, and a function that takes the message."""

from collections.abc import Mapping

from tickets import BANNED, QUEUES, Ticket, ticket_of

from triosmtp import Address, Message, Policy, Reject, Session


class TicketPolicy(Policy):
    async def validate_mailfrom(self, session: Session, sender: Address, parameters: Mapping[str, str | None]) -> None:
        if str(sender) in BANNED:
            raise Reject(550, "5.7.1", "You are banned")

    async def validate_rcptto(self, session: Session, recipient: Address, parameters: Mapping[str, str | None]) -> None:
        if recipient.domain_key == "tickets.example" and recipient.local_part not in QUEUES:
            raise Reject(550, "5.1.1", "No such queue")


class TicketDelivery:
    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    async def __call__(self, message: Message) -> None:
        sender, author = str(message.envelope.sender), message.variables.get("auth_user")
        with message.body.open() as body:
            content = body.read()
        try:
            made = [ticket_of(each.address.local_part, sender, content, author) for each in message.envelope.recipients]
        except ValueError as error:
            raise Reject(554, "5.6.0", str(error)) from None
        self.tickets += made
