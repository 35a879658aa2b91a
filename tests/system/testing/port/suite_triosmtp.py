"""After: the same test suite, with triosmtp's controller."""

import smtplib
import ssl
from collections.abc import Iterator

import pytest
from handler_triosmtp import TicketDelivery, TicketPolicy

from triosmtp.testing import Controller

USERS = {"jane": "correct horse"}
OPTIONS = 'Open_Relay = false Relay_Domains = ( "tickets.example" )'


@pytest.fixture
def delivery() -> TicketDelivery:
    return TicketDelivery()


@pytest.fixture
def server(delivery: TicketDelivery) -> Iterator[Controller]:
    with Controller(OPTIONS, policy=TicketPolicy(), deliver=delivery, tls=True, users=USERS) as controller:
        yield controller


@pytest.fixture
def client(server: Controller) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(server.hostname, server.port) as client:
        yield client


@pytest.fixture
def tls(server: Controller) -> ssl.SSLContext:
    return server.client_context()


MESSAGE = "Subject: It is broken\r\n\r\nPlease mend it.\r\n"


def test_a_ticket(delivery: TicketDelivery, client: smtplib.SMTP) -> None:
    client.sendmail("joe@example.org", ["support@tickets.example", "billing@tickets.example"], MESSAGE)
    assert [ticket.queue for ticket in delivery.tickets] == ["support", "billing"]
    assert delivery.tickets[0].subject == "It is broken"
    assert delivery.tickets[0].text == "Please mend it."
    assert delivery.tickets[0].author is None


def test_banned(client: smtplib.SMTP) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused, match="banned"):
        client.sendmail("spam@bad.example", ["support@tickets.example"], MESSAGE)


@pytest.mark.parametrize("recipient", ["sales@tickets.example", "support@elsewhere.example"])
def test_refused_recipients(delivery: TicketDelivery, client: smtplib.SMTP, recipient: str) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("joe@example.org", [recipient], MESSAGE)
    assert not delivery.tickets


def test_no_text(delivery: TicketDelivery, client: smtplib.SMTP) -> None:
    with pytest.raises(smtplib.SMTPDataError, match="no text"):
        client.sendmail("joe@example.org", ["support@tickets.example"], "Content-Type: image/png\r\n\r\nx\r\n")
    assert not delivery.tickets


def test_the_author_is_who_logged_in(delivery: TicketDelivery, client: smtplib.SMTP, tls: ssl.SSLContext) -> None:
    client.starttls(context=tls)
    client.login("jane", USERS["jane"])
    client.sendmail("joe@example.org", ["support@tickets.example"], MESSAGE)
    assert delivery.tickets[0].author == "jane"


def test_a_wrong_password(client: smtplib.SMTP, tls: ssl.SSLContext) -> None:
    client.starttls(context=tls)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("jane", "wrong")
