"""Before: the test suite, with aiosmtpd's controller."""

import smtplib
import ssl
from collections.abc import Iterator

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from handler_aiosmtpd import TicketHandler, Users

USERS = {"jane": "correct horse"}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


class TicketController(Controller):
    def __init__(self, handler: TicketHandler, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__(handler, hostname="127.0.0.1", port=0)

    def factory(self) -> SMTP:
        return SMTP(
            self.handler, tls_context=self.context, authenticator=Users(USERS), auth_require_tls=True, hostname="mx"
        )

    def _trigger_server(self) -> None:
        # It connects to the port that it was given, which is 0.
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[TicketController]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    controller = TicketController(TicketHandler(), context)
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def client(server: TicketController) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(server.hostname, server.port) as client:
        yield client


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


MESSAGE = "Subject: It is broken\r\n\r\nPlease mend it.\r\n"


def test_a_ticket(server: TicketController, client: smtplib.SMTP) -> None:
    client.sendmail("joe@example.org", ["support@tickets.example", "billing@tickets.example"], MESSAGE)
    assert [ticket.queue for ticket in server.handler.tickets] == ["support", "billing"]
    assert server.handler.tickets[0].subject == "It is broken"
    assert server.handler.tickets[0].text == "Please mend it."
    assert server.handler.tickets[0].author is None


def test_banned(client: smtplib.SMTP) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused, match="banned"):
        client.sendmail("spam@bad.example", ["support@tickets.example"], MESSAGE)


@pytest.mark.parametrize("recipient", ["sales@tickets.example", "support@elsewhere.example"])
def test_refused_recipients(server: TicketController, client: smtplib.SMTP, recipient: str) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("joe@example.org", [recipient], MESSAGE)
    assert not server.handler.tickets


def test_no_text(server: TicketController, client: smtplib.SMTP) -> None:
    with pytest.raises(smtplib.SMTPDataError, match="no text"):
        client.sendmail("joe@example.org", ["support@tickets.example"], "Content-Type: image/png\r\n\r\nx\r\n")
    assert not server.handler.tickets


def test_the_author_is_who_logged_in(server: TicketController, client: smtplib.SMTP, tls: ssl.SSLContext) -> None:
    client.starttls(context=tls)
    client.login("jane", USERS["jane"])
    client.sendmail("joe@example.org", ["support@tickets.example"], MESSAGE)
    assert server.handler.tickets[0].author == "jane"


def test_a_wrong_password(client: smtplib.SMTP, tls: ssl.SSLContext) -> None:
    client.starttls(context=tls)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("jane", "wrong")
