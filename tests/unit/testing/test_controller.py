"""The controller: a server in a thread."""

import smtplib
import ssl
import threading
from pathlib import Path

import pytest
import trio

from triosmtp import ConfigError, Message, Policy, Reject, Session
from triosmtp.event import Disconnected
from triosmtp.testing import Controller

MESSAGE = "Subject: x\r\n\r\nhello\r\n"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "triosmtp"]


def test_mail_is_there_when_the_client_has_its_reply() -> None:
    with Controller() as server:
        for number in range(20):
            with smtplib.SMTP(server.hostname, server.port) as client:
                client.sendmail(f"a{number}@example.org", ["b@anywhere.example"], MESSAGE)
            assert server.messages[-1].sender == f"a{number}@example.org"
        assert server.messages[0].body == MESSAGE.encode()
        assert server.messages[0].recipients == ("b@anywhere.example",)
    assert not threads()


def test_tls_client_certificates_and_users() -> None:
    with Controller(tls=True, users={"jane": "correct horse"}) as server:
        assert server.authority is not None
        certificate = server.authority.issue("client", dns=["client.example"])
        for presented, verified in ((certificate, "yes"), (None, "no")):
            with smtplib.SMTP("localhost", server.port) as client:
                client.starttls(context=server.client_context(presented))
                client.login("jane", "correct horse")
                client.sendmail("a@example.org", ["b@anywhere.example"], MESSAGE)
            variables = server.messages[-1].variables
            assert (variables["tls_client_verified"], variables["auth_user"]) == (verified, "jane")
        for _ in range(30):  # no limit of failures stands in the way of a test
            with smtplib.SMTP("localhost", server.port) as client:
                client.ehlo()
                assert "PLAIN" not in client.esmtp_features["auth"].split()  # before TLS a password is not asked for
                client.starttls(context=server.client_context())
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.login("jane", "wrong")
        with smtplib.SMTP("localhost", server.port) as client, pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context())


def test_tls_from_the_first_byte() -> None:
    with (
        Controller("Use_SSL = true", tls=True) as server,
        smtplib.SMTP_SSL("localhost", server.port, context=server.client_context()) as client,
    ):
        client.sendmail("a@example.org", ["b@anywhere.example"], MESSAGE)
        assert server.messages[0].variables["tls"] == "on"


def test_without_tls_passwords_are_taken_in_plaintext() -> None:
    with Controller(users={"jane": "x"}) as server, smtplib.SMTP(server.hostname, server.port) as client:
        client.login("jane", "x")
        with pytest.raises(RuntimeError, match="Controller\\(tls=True\\)"):
            server.client_context()


class Refusing(Policy):
    async def validate_connect(self, session: Session) -> None:
        raise Reject(554, "5.7.1", "not you")


def test_policy_delivery_and_options() -> None:
    taken: list[int] = []

    async def deliver(message: Message) -> None:
        taken.append(message.size)

    with Controller(policy=Refusing()) as server, pytest.raises(smtplib.SMTPConnectError, match="not you"):
        smtplib.SMTP(server.hostname, server.port)
    options = 'Max_Message_Size = 100 Open_Relay = false Relay_Domains = ( "ours.example" )'
    with Controller(options, deliver=deliver) as server, smtplib.SMTP(server.hostname, server.port) as client:
        client.sendmail("a@example.org", ["b@ours.example"], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["b@anywhere.example"], MESSAGE)
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.org", ["b@ours.example"], MESSAGE + "x" * 100)
        assert (taken, server.messages) == ([len(MESSAGE)], [])


def test_a_mistake_is_raised_where_it_is_started() -> None:
    server = Controller("Nonsense = 1")
    with pytest.raises(ConfigError, match="unknown option Nonsense"):
        server.start()
    with pytest.raises(TypeError, match="is called with one argument"):
        Controller(deliver=lambda: None).start()  # type: ignore[arg-type,misc]
    for user, password in (("a:b", "x"), ("#a", "x"), ("", "x"), ("a\nb", "x"), ("a", ""), ("a", "x\n")):
        with pytest.raises(ValueError, match="users: a name or password"):
            Controller(users={"jane": "x", user: password}).start()
    assert not threads()
    server.stop()


def test_start_and_stop() -> None:
    server = Controller()
    server.stop()
    ports = set()
    for _ in range(3):
        server.start()
        ports.add(server.port)
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
        left = smtplib.SMTP(server.hostname, server.port)  # a session that a test leaves open ends with it
        server.stop()
        server.stop()
        left.close()
        with pytest.raises(ConnectionRefusedError):
            smtplib.SMTP("127.0.0.1", next(iter(ports)))
        assert server.port == 0
        assert not threads()
    assert len([event for event in server.events if isinstance(event, Disconnected)]) == 3


def test_it_starts_and_stops_in_a_program_that_runs_trio() -> None:
    async def main() -> None:
        with Controller() as server:
            assert server.port

    trio.run(main)
    assert not threads()


def test_a_test_that_fails_in_the_server_fails_where_it_is_stopped() -> None:
    async def deliver(_message: Message) -> None:
        pytest.fail("not this one")

    server = Controller(deliver=deliver)
    server.start()
    thread, folder = server._thread, server._folder
    assert thread is not None
    assert folder is not None
    with smtplib.SMTP(server.hostname, server.port) as client, pytest.raises(smtplib.SMTPServerDisconnected):
        client.sendmail("a@example.org", ["b@anywhere.example"], MESSAGE)
    thread.join()
    with pytest.raises(pytest.fail.Exception, match="not this one"):
        server.stop()
    assert not Path(folder.name).exists()
    server.start()
    server.stop()


def test_no_file_is_left_on_disk_or_in_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Controller(tls=True, users={"jane": "x"}) as server:
        assert server.authority is not None
        context = server.client_context(server.authority.issue("client"))
        with smtplib.SMTP("localhost", server.port) as client:
            client.starttls(context=context)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("nobody", "x")
        with smtplib.SMTP("localhost", server.port) as client:
            client.sendmail("a@example.org", ["b@anywhere.example"], MESSAGE + ("y" * 98 + "\r\n") * 20_000)
    assert list(tmp_path.iterdir()) == []
