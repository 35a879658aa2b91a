"""What is one thing in the whole service, however many workers serve it: configuration, limits, hub, certificates."""

import base64
import os
import signal
import smtplib
import socket
import ssl
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trio
from worker_service import ADMIN, told, workers

from triosmtp import Reject
from triosmtp.policy_client import Notification, PolicyClient, PolicyRequest
from triosmtp.testing import Authority


def test_a_reload_reaches_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "choosy.py").write_text(
        "import sys\nfrom triosmtp import Policy\n"
        "if 'triosmtp.workers.worker' in ' '.join(sys.orig_argv): raise RuntimeError('not in a worker')\n"
        "class Choosy(Policy):\n    pass\n"
    )
    with workers(tmp_path, 'Workers = 2 Banner_Hostname = "one.example"') as service:
        old = [service.session() for _ in range(4)]
        assert len({row["id"].partition("-")[0] for row in service.inbound()}) == 2  # in both workers
        # What the supervisor can have and the workers cannot changes nothing anywhere.
        service.write('Workers = 2 Banner_Hostname = "two.example" Policy = ( "python:choosy:Choosy" )')
        answer = service.console("config reload")
        assert answer["status"] == 78
        assert "not in a worker" in answer["text"]
        assert {told(service)[1].split()[0] for _ in range(4)} == {"one.example"}
        assert not any(row["outdated"] for row in service.inbound())
        assert old[0].noop()[0] == 250
        service.write('Workers = 3 Banner_Hostname = "two.example"')
        answer = service.console("config reload")
        assert answer["status"] == 0
        assert answer["data"]["sessions"] == 4
        assert any("takes effect at the next start" in warning for warning in answer["data"]["warnings"])
        assert {told(service)[1].split()[0] for _ in range(4)} == {"two.example"}
        assert len(service.workers) == 2
        for session in old:
            assert session.mail("a@example.org")[0] == 421
        # A worker that comes later has what is in force.
        os.kill(service.workers[0], signal.SIGKILL)
        service.until(lambda: service.logged("has replaced a worker"))
        assert {told(service)[1].split()[0] for _ in range(4)} == {"two.example"}


def test_certificates_are_the_same_everywhere(tmp_path: Path) -> None:
    def serial() -> str:
        with smtplib.SMTP("127.0.0.1", service.port, timeout=60) as client:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            certificate = client.sock.getpeercert(binary_form=True)
            assert certificate is not None
            return ssl.DER_cert_to_PEM_cert(certificate)

    with workers(tmp_path) as service:
        first = {serial() for _ in range(4)}
        Authority.create().issue("localhost", dns=["localhost"]).write(tmp_path, "server")
        assert service.console("tls flush cache")["status"] == 0
        second = {serial() for _ in range(4)}
        assert len(first) == len(second) == 1
        assert first != second
        contexts = service.console("tls show cache")["data"]["contexts"]
        assert {row["worker"] for row in contexts} == {1, 2}
        # A worker that starts later has the configuration in force, though it could not be read again.
        (tmp_path / "server.key").unlink()
        os.kill(service.workers[0], signal.SIGKILL)
        service.until(lambda: service.logged("has replaced a worker"))
        assert {serial() for _ in range(4)} == second


def test_a_worker_takes_the_place_of_a_dead_one_though_files_are_gone(tmp_path: Path) -> None:
    recipients, users, token = (tmp_path / name for name in ("recipients", "users", "token"))
    files = {recipients: "you@example.com\n", users: "jane:secret\n"}

    def write() -> None:
        for path, text in files.items():
            path.write_text(text)
            os.utime(path, (1, 1))

    def answers() -> set[tuple[int, int]]:
        found = set()
        for _ in range(4):
            with smtplib.SMTP("127.0.0.1", service.port, timeout=60) as client:
                client.ehlo("c.example.org")
                login = client.docmd("AUTH", "PLAIN AGphbmUAc2VjcmV0")[0]
                client.mail("a@example.org")
                found.add((login, client.rcpt("you@example.com")[0]))
        return found

    write()
    options = f"""
        Workers = 2
        Known_Recipients = ( "file:{recipients}" )
        AuthPlainParameters = [ uri = "file://{users}" stored_cleartext = true ]
        Allow_Plaintext_Auth = true
    """
    with workers(tmp_path, options, 'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH PLAIN" )') as service:
        assert answers() == {(235, 250)}
        for path in (recipients, users, token):
            path.unlink()
        assert answers() == {(454, 250)}  # passwords are read from the file, and recipients kept
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        service.until(lambda: sum("has replaced a worker" in str(each.get("message")) for each in service.log) == 2)
        assert answers() == {(454, 451)}
        write()
        end = time.monotonic() + 60
        while answers() != {(235, 250)}:  # it is looked at once a second
            assert time.monotonic() < end


def test_limits_hold_over_all_workers(tmp_path: Path) -> None:
    listener = "Listener_Sessions = 5 TLS_Handshakes_Per_Peer = 3/60"
    with workers(tmp_path, "Workers = 2", listener) as service:
        sessions = [service.session() for _ in range(5)]
        assert told(service)[0] == 421
        assert [session.starttls()[0] for session in sessions[:3]] == [220] * 3
        with pytest.raises(smtplib.SMTPResponseException) as caught:
            sessions[3].starttls()
        assert caught.value.smtp_code == 454
        sessions[4].quit()
        service.until(lambda: any(each["event"] == "disconnected" for each in service.log))
        assert told(service)[0] == 220
        # The connections of a worker do not count after its end.
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        service.until(lambda: sum("sessions lost" in str(each.get("message")) for each in service.log) == 2)
        for _ in range(5):
            service.session()
        assert told(service)[0] == 421


def test_one_address_has_its_share_of_handshakes_over_all_workers(tmp_path: Path) -> None:
    with workers(tmp_path, "Workers = 2 TLS_Handshakes_Max = 20") as service:
        told_so = [service.session().docmd("STARTTLS")[0] for _ in range(11)]  # and nothing follows
        assert told_so == [220] * 10 + [454]
        other = smtplib.SMTP("127.0.0.1", service.port, timeout=30, source_address=("127.0.0.2", 0))
        with closing(other):  # without a QUIT: what the server awaits is a handshake
            other.ehlo("c.example.org")
            assert other.docmd("STARTTLS")[0] == 220
        service.hang_up()


def test_failed_attempts_to_authenticate_count_over_all_workers(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("joe:right\n")
    listener = (
        f'AuthPlainParameters = [ uri = "file://{tmp_path}/passwords" ] SMTP_Extensions = ( "AUTH PLAIN" ) '
        f'Auth_Failure_Rate_Per_Peer = "4/600" Auth_Failure_Delay = 0.001 Allow_Plaintext_Auth = true '
        f'Spool_Directory = "{tmp_path}/spool"'
    )

    def attempt(session: smtplib.SMTP, password: str) -> int:
        return session.docmd("AUTH", f"PLAIN {base64.b64encode(f'{chr(0)}joe{chr(0)}{password}'.encode()).decode()}")[0]

    with workers(tmp_path, "Workers = 2", listener) as service:
        sessions = [service.session() for _ in range(8)]
        assert len({row["id"].partition("-")[0] for row in service.inbound()}) == 2  # in both workers
        assert [attempt(session, "right") for session in sessions[:4]] == [235] * 4  # is taken back
        assert [attempt(session, "wrong") for session in sessions[4:]] == [535] * 4
        assert [attempt(session, "right") for session in sessions[4:]] == [454] * 4


@pytest.mark.parametrize("number", [1, 2])
def test_who_finds_no_descriptor_waits(tmp_path: Path, number: int) -> None:
    """Far more connect than there are descriptors for: each is greeted in the end, as soon as others have gone."""
    with workers(tmp_path, f"Workers = {number}", descriptors=60) as service:
        clients = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(100)]
        for client in clients:
            assert client.recv(4) == b"220 "
            client.close()
        said = [each for each in service.log if each.get("level") == "error"]
        assert said == []


@pytest.mark.parametrize("number", [1, 2])
def test_idle_connections_leave_descriptors_for_mail(tmp_path: Path, number: int) -> None:
    """A body in a file and its delivery need descriptors, too, when as many clients are connected as is possible."""
    with workers(tmp_path, f"Workers = {number}", descriptors=60) as service, ExitStack() as stack:
        client = service.session()
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
        if number == 1:
            service.until(lambda: service.logged("no descriptor is left for more"))
        for _ in range(3):
            assert client.sendmail("a@example.org", ["b@example.com"], "X-Id: 1\r\n\r\n" + "x\r\n" * 500_000) == {}


async def test_a_policy_client_sees_and_decides_the_sessions_of_all(tmp_path: Path) -> None:
    with workers(tmp_path, 'Workers = 2 Policy = ( "websocket:g" )') as service:
        client = PolicyClient(f"ws://127.0.0.1:{service.policy_port}/", name="n", group="g", token=ADMIN)
        opened: list[str] = []
        closed, all_closed = set[str](), trio.Event()

        @client.on("mailfrom")
        async def check(request: PolicyRequest) -> None:
            raise Reject(550, "5.7.1", f"no mail in {request.session}")

        @client.notification("session.opened", "session.closed")
        async def note(notification: Notification) -> None:
            if notification.method == "session.opened":
                opened.append(notification.params["session"])
            else:
                closed.add(notification.params["session"])
                if closed >= set(opened):
                    all_closed.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            sessions = [await trio.to_thread.run_sync(service.session) for _ in range(6)]
            listed = (await client.request("session.list"))["sessions"]
            names = {each["id"] for each in listed}
            assert names == set(opened)
            assert len({each.partition("-")[0] for each in names}) == 2
            for session in sessions:
                code, text = await trio.to_thread.run_sync(session.mail, "a@example.org")
                assert code == 550
                assert text.decode().rpartition(" ")[2] in names
            for name in names:
                await client.request("session.set_variables", session=name, connection={"seen": name})
                shown = await client.request("session.get", session=name)
                assert shown["variables"]["seen"] == name
                await client.request("session.close", session=name)
            for session in sessions:
                assert (await trio.to_thread.run_sync(session.getreply))[0] == 421
            with trio.fail_after(30):
                await all_closed.wait()
            groups = await trio.to_thread.run_sync(service.console, "show policy")
            assert groups["data"]["groups"][0]["answered"] == 6
            nursery.cancel_scope.cancel()


def test_who_speaks_for_others_does_so_in_every_worker(tmp_path: Path) -> None:
    listener = """Proxy_Protocol = ( "127.0.0.1" )
    Peer "198.51.100.0/24" { Static_Banner = "220 for 198.51.100"
    SMTP_Extensions = ( XCLIENT ) Connections_Per_Peer = 1 }
    Peer "203.0.113.1" { Static_Banner = "220 for 203.0.113.1" }"""
    with workers(tmp_path, "Workers = 2", listener) as service:
        for number in range(4):
            with socket.create_connection(("127.0.0.1", service.port), timeout=60) as sock:
                file = sock.makefile("rwb")
                file.write(b"PROXY TCP4 198.51.100.%d 192.0.2.1 7 25\r\nXCLIENT ADDR=203.0.113.1\r\nQUIT\r\n" % number)
                file.flush()
                assert [file.readline() for _ in range(3)] == [
                    b"220 for 198.51.100\r\n", b"220 for 203.0.113.1\r\n", b"221 2.0.0 Bye\r\n",
                ]  # fmt: skip
                assert file.read() == b""
                file.close()
        service.until(lambda: sum(each["event"] == "disconnected" for each in service.log) == 4)
        announced = [each for each in service.log if each["event"] == "peer-announced"]
        assert sorted(each["real_peer"] for each in announced) == [f"198.51.100.{number}:7" for number in range(4)]
        # Counted in and out under one address, regardless of the address announced later.
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as sock:
            sock.sendall(b"PROXY TCP4 198.51.100.1 192.0.2.1 7 25\r\n")
            assert sock.recv(100) == b"220 for 198.51.100\r\n"


def test_one_process_stays_one(tmp_path: Path) -> None:
    with workers(tmp_path, "Workers = 1") as service:
        assert service.workers == []


def test_every_worker_sends_the_same_salt_for_an_unknown_user(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("joe:x\n")
    (tmp_path / "state").write_text("no folder: the key cannot be kept\n")
    listener = (
        f'AuthPlainParameters = [ uri = "file://{tmp_path}/passwords" ] SMTP_Extensions = ( "AUTH SCRAM-SHA-256" ) '
        f'Spool_Directory = "{tmp_path}/spool"'
    )

    def salt(session: smtplib.SMTP) -> str:
        code, text = session.docmd("AUTH", f"SCRAM-SHA-256 {base64.b64encode(b'n,,n=nobody,r=x').decode()}")
        assert code == 334
        return base64.b64decode(text).decode().split(",")[1]

    with workers(tmp_path, listener=listener) as service:
        sessions = [service.session() for _ in range(4)]
        assert len({row["id"].partition("-")[0] for row in service.inbound()}) == 2  # in both workers
        assert len({salt(session) for session in sessions}) == 1
        assert sum("can tell unknown users" in str(record.get("message")) for record in service.log) == 1
