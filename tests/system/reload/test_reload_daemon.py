"""The real `triosmtp serve` reads its configuration again: under load, with errors, for sessions that began before."""

import signal
import smtplib
import socket
import threading
from pathlib import Path

import pytest
from daemon_server import DaemonServer, daemon
from serve_process import free_port, wait_for_log

MESSAGE = b"Subject: reload\r\n\r\nA line.\r\n"


def listens(*ports: int, options: str = "") -> str:
    return "\n".join(f'Listen "127.0.0.1:{port}" {{ {options} }}' for port in ports)


def wait_for(server: DaemonServer, text: str, times: int = 1) -> None:
    """Return when the log holds `text` so often."""
    wait_for_log(server.folder / "log", text, times)


def is_served(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, "client.example.org", 10) as client:
            return client.noop()[0] == 250
    except ConnectionRefusedError:
        return False


class Visitor(threading.Thread):
    """Connects again and again, until told to stop, or the first failure."""

    def __init__(self, port: int, done: threading.Event, *, greets: bool) -> None:
        super().__init__()
        self.port = port
        self.done = done
        self.greets = greets
        self.count = 0
        self.failures: list[BaseException] = []

    def run(self) -> None:
        while not self.done.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, "client.example.org", 30) as client:
                    if self.greets:
                        client.ehlo()
                    assert client.noop()[0] == 250
                self.count += 1
            except Exception as error:  # noqa: BLE001 - told by the test
                self.failures.append(error)
                return


def test_no_connection_on_an_unchanged_listen_is_lost(tmp_path: Path) -> None:
    kept, leaves, comes, changes = (free_port() for _ in range(4))
    before = listens(kept, leaves) + listens(changes, options="TCP_Recv_Buffer_Size = 100000")
    after = listens(kept, comes) + listens(
        changes, options="TCP_Recv_Buffer_Size = 200000 Banner_Hostname = new.example"
    )
    with daemon(tmp_path, before) as server:
        done = threading.Event()
        clients = [Visitor(kept, done, greets=bool(number % 2)) for number in range(6)]
        for client in clients:
            client.start()
        try:
            for round_ in range(10):
                server.write(before if round_ % 2 else after)
                server.signal(signal.SIGHUP)
                wait_for(server, "configuration-reloaded", round_ + 1)
        finally:
            done.set()
            for client in clients:
                client.join()
        assert [client.failures for client in clients] == [[]] * 6
        assert min(client.count for client in clients) > 5
        print(f"{sum(client.count for client in clients)} connections through 10 reloads")
        server.write(after)
        result = server.console("config reload")
        assert result.out.splitlines() == [
            f"{server.conf} is in force",
            f'Listen "127.0.0.1:{comes}" opened',
            f'Listen "127.0.0.1:{changes}" opened',
            f'Listen "127.0.0.1:{leaves}" closed',
            f'Listen "127.0.0.1:{changes}" closed',
            f'Listen "127.0.0.1:{kept}" kept',
        ]
        assert (is_served(kept), is_served(comes), is_served(leaves)) == (True, True, False)
        with smtplib.SMTP() as other:
            assert b"new.example" in other.connect("127.0.0.1", changes)[1]


def test_the_backlog_of_a_kept_listen_is_served(tmp_path: Path) -> None:
    port = free_port()
    with daemon(tmp_path, listens(port)) as server:
        server.signal(signal.SIGSTOP)
        waiting = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(20)]
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGCONT)
        for sock in waiting:
            with sock:
                assert sock.recv(1000).startswith(b"220 ")
        wait_for(server, "configuration-reloaded")


def test_a_session_from_before_ends_at_its_next_message_and_finishes_the_one_under_way(tmp_path: Path) -> None:
    port = free_port()
    text = 'Reconfig_Message = "4.3.2 Back in a moment"'
    with daemon(tmp_path, listens(port), text) as server:
        sessions = [smtplib.SMTP("127.0.0.1", port, "client.example.org", 30) for _ in range(3)]
        under_way, idle, resets = sessions
        for session in sessions:
            session.ehlo()
        assert under_way.mail("a@example.org")[0] == 250
        assert server.console("config reload").status == 0
        assert [row["outdated"] for row in server.ask("show inbound")] == [True] * 3
        assert under_way.rcpt("b@example.com")[0] == 250
        assert under_way.data(MESSAGE)[0] == 250
        assert under_way.mail("a@example.org") == (421, b"4.3.2 Back in a moment")
        assert idle.noop()[0] == 250
        assert idle.ehlo()[0] == 250
        assert idle.docmd("MAIL FROM:<a@example.org>") == (421, b"4.3.2 Back in a moment")
        assert resets.docmd("RSET") == (421, b"4.3.2 Back in a moment")
        for session in sessions:
            session.close()
        wait_for(server, "reason=reconfigured", 3)
        assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 1
        fresh = smtplib.SMTP("127.0.0.1", port, "client.example.org", 30)
        fresh.sendmail("a@example.org", "b@example.com", MESSAGE.decode())
        fresh.quit()


def test_starttls_of_an_older_session_whose_certificate_was_removed(tmp_path: Path) -> None:
    import ssl  # noqa: PLC0415

    port = free_port()
    with daemon(tmp_path, listens(port)) as server, smtplib.SMTP("127.0.0.1", port, "me.example.org", 30) as client:
        client._host = "localhost"  # type: ignore[attr-defined]  # the name in the certificate
        server.conf.write_text(f'ESMTP_Listener {{ Listen "127.0.0.1:{port}" {{ }} }}')
        assert server.console("config reload").status == 0
        assert client.starttls(context=ssl.create_default_context(cadata=server.ca))[0] == 220
        (context,) = server.ask("tls show cache")["contexts"]
        assert (context["in_force"], context["sessions"]) == (False, 1)


ERRORS = {
    "a word that is no option": (
        "Idle_Tme = 3",
        "",
        "error: unknown option Idle_Tme; did you mean Idle_Time?",
        "Idle_Tme",
    ),
    "a certificate that is not there": (
        'TLS_Certificate = "/nowhere/cert.pem"',
        "",
        'error: TLS_Certificate: "/nowhere/cert.pem"',
        "TLS_Certificate",
    ),
    "a policy that is not there": (
        "",
        'Policy = ( "python:no_such_policy:P" )',
        "No module named 'no_such_policy'",
        "Policy",
    ),
    "a port that is not ours": ("", "", "Address already in use", "127.0.0.1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_reload_with_an_error_changes_nothing_and_shows_the_caret(tmp_path: Path, name: str) -> None:
    listen, options, expected, _ = ERRORS[name]
    port, other = free_port(), free_port()
    with daemon(tmp_path, listens(port)) as server, socket.create_server(("127.0.0.1", 0)) as theirs:
        taken = theirs.getsockname()[1] if "port" in name else free_port()
        session = smtplib.SMTP("127.0.0.1", port, "client.example.org", 30)
        server.write(listens(other) + listens(taken, options=listen), options)
        for result in (server.run("reload", "--control", server.control), server.console("config", "reload")):
            assert result.status == 78
            assert result.out == ""
            assert expected in result.err
            assert f"{server.conf}:" in result.err
            assert result.err.rstrip().endswith("^")
        server.signal(signal.SIGHUP)
        wait_for(server, "SIGHUP: the reload failed; the previous configuration stays in force")
        assert server.log.count("configuration-reload-failed") == 3
        assert server.log.count(expected) == 3
        assert server.log.count("^") >= 3
        assert "configuration-reloaded" not in server.log
        # The session is not on an old configuration, the Listen is open, those of the new file are not.
        assert session.docmd("RSET")[0] == 250
        session.close()
        assert (is_served(port), is_served(other)) == (True, False)


def test_a_wildcard_is_replaced_by_one_address_on_the_same_port(tmp_path: Path) -> None:
    port = free_port()
    with daemon(tmp_path, f'Listen ":{port}" {{ }}') as server:
        for listen in (f"127.0.0.1:{port}", f":{port}"):
            server.write(f'Listen "{listen}" {{ }}')
            assert f'Listen "{listen}" opened' in server.console("config reload").out
            assert is_served(port)


def test_a_unix_socket_keeps_its_place_and_takes_its_new_mode(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with daemon(tmp_path, f'Listen "{path}" {{ }}') as server:
        inode = path.stat().st_ino
        server.write(f'Listen "{path}" {{ File_Mode = 0600 }} Listen "127.0.0.1:0" {{ }}')
        assert server.console("config reload").status == 0
        assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o600)
        server.write('Listen "127.0.0.1:0" { }')
        assert 'Listen "127.0.0.1:0" kept' in server.console("config reload").out
        assert not path.exists()


POLICY = """
from triosmtp import Policy, Reject
import words_beside_it

class Answer(Policy):
    async def validate_mailfrom(self, session, sender, parameters):
        raise Reject(550, "5.7.1", words_beside_it.TEXT)
"""


def test_policies_in_the_configuration_folder_are_reimported(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "answer_policy.py").write_text(POLICY)
    words = tmp_path / "words_beside_it.py"
    words.write_text('TEXT = "one"')

    def said() -> bytes:
        with smtplib.SMTP("127.0.0.1", port, "client.example.org", 30) as client:
            client.ehlo()
            return client.mail("a@example.org")[1]

    with daemon(tmp_path, listens(port), 'Policy = ( "python:answer_policy:Answer" )') as server:
        assert said() == b"5.7.1 one"
        words.write_text('TEXT = "two"')  # of the same size, in the same second
        assert said() == b"5.7.1 one"
        assert server.console("config reload").status == 0
        assert said() == b"5.7.1 two"
        words.write_text("TEXT = ")
        assert "SyntaxError" in server.console("config reload").err
        assert said() == b"5.7.1 two"
        words.write_text('TEXT = "six"')
        assert server.console("config reload").status == 0
        assert said() == b"5.7.1 six"


DELIVERY = """
from pathlib import Path
from triosmtp import Delivery, DeliveryError, Reject
import words_beside_it

class Store(Delivery):
    async def deliver(self, message):
        sender = message.envelope.sender.local_part
        if sender == "refused":
            raise Reject(554, "5.6.0", words_beside_it.TEXT)
        if sender == "full":
            raise DeliveryError("no room", storage=True)
        if sender == "bug":
            raise KeyError("a bug")
        with message.body.open() as body:
            Path("taken").write_bytes(body.read())

    async def aclose(self):
        with Path("closed").open("a") as file:
            file.write(words_beside_it.TEXT)

store = Store()

async def take(message):
    await store.deliver(message)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_delivery_in_the_configuration_folder_is_reimported(tmp_path: Path, workers: int) -> None:
    port = free_port()
    (tmp_path / "own_delivery.py").write_text(DELIVERY)
    words = tmp_path / "words_beside_it.py"
    words.write_text('TEXT = "one"')

    def sent(sender: str) -> bytes:
        with smtplib.SMTP("127.0.0.1", port, "client.example.org", 30) as client:
            client.ehlo()
            client.mail(f"{sender}@example.org")
            client.rcpt("you@example.com")
            return b"%d %s" % client.data(MESSAGE)

    delivery = listens(port, options='Deliver_To = "python:own_delivery:take"')
    with daemon(tmp_path, delivery, f"Workers = {workers}") as server:
        assert sent("me").startswith(b"250 2.0.0 Ok: queued as ")
        assert (tmp_path / "taken").read_bytes() == MESSAGE
        assert sent("refused") == b"554 5.6.0 one"
        assert sent("full") == b"452 4.3.1 Insufficient system storage"
        words.write_text('TEXT = "two"')  # of the same size, in the same second
        assert sent("refused") == b"554 5.6.0 one"
        assert server.console("config reload").status == 0
        assert sent("refused") == b"554 5.6.0 two"
        for broken, told in (("TEXT = ", "SyntaxError"), ("raise SystemExit(3)", "SystemExit: 3")):
            words.write_text(broken)
            assert f"Deliver_To: 'python:own_delivery:take': {told}" in server.console("config reload").err
            assert sent("refused") == b"554 5.6.0 two"


def test_a_delivery_class_is_closed_with_the_last_session_of_its_configuration(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "own_delivery.py").write_text(DELIVERY)
    (tmp_path / "words_beside_it.py").write_text('TEXT = "one"')
    with daemon(tmp_path, listens(port, options='Deliver_To = "python:own_delivery:Store"')) as server:
        session = smtplib.SMTP("127.0.0.1", port, "client.example.org", 30)
        (tmp_path / "words_beside_it.py").write_text('TEXT = "two"')
        assert server.console("config reload").status == 0
        assert not (tmp_path / "closed").exists()
        session.quit()
        with smtplib.SMTP("127.0.0.1", port, "client.example.org", 30):
            pass
    assert (tmp_path / "closed").read_text() == "onetwo"
