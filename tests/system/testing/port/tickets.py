"""The application: tickets by mail.  It is the same before and after."""

from dataclasses import dataclass
from email import message_from_bytes, policy

BANNED = {"spam@bad.example"}
QUEUES = {"support", "billing"}


@dataclass
class Ticket:
    queue: str
    sender: str
    subject: str
    text: str
    author: str | None = None


def ticket_of(queue: str, sender: str, content: bytes, author: str | None) -> Ticket:
    message = message_from_bytes(content, policy=policy.default)
    body = message.get_body(("plain",))
    if body is None:
        raise ValueError("no text")
    return Ticket(queue, sender, str(message["Subject"]), body.get_content().strip(), author)
