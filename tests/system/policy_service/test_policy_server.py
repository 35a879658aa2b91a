"""A running server and its policy clients: endpoints, tokens, certificates, reloads, the end."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from policy_server import ADMIN, ENVIRONMENT, TOKEN, Service
from serve_process import COMMAND

from triosmtp import Reject
from triosmtp.policy_client import Notification, PolicyClient, PolicyClientError, PolicyRequest


def upgrade(port: int, *headers: str) -> str:
    """Request an upgrade over a plain socket, and return the status line."""
    request = [
        "GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *headers, "", "",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall("\r\n".join(request).encode())
        return sock.makefile("rb").readline().decode().strip()


PROTOCOL = "Sec-WebSocket-Protocol: policy.v1.triosmtp"


def test_the_endpoint(tmp_path: Path) -> None:
    service = Service(tmp_path)
    bearer = f"Authorization: Bearer {TOKEN}"
    with service.serving() as program:
        port = service.policy_port
        assert upgrade(port, PROTOCOL).startswith("HTTP/1.1 401")
        assert upgrade(port, PROTOCOL, "Authorization: Bearer wrong").startswith("HTTP/1.1 401")
        assert upgrade(port, PROTOCOL, f"Authorization: Basic {TOKEN}").startswith("HTTP/1.1 401")
        assert upgrade(port, bearer).startswith("HTTP/1.1 400")
        assert upgrade(port, bearer, "Sec-WebSocket-Protocol: policy.v9.triosmtp").startswith("HTTP/1.1 400")
        assert upgrade(port, PROTOCOL, "Origin: http://localhost").startswith("HTTP/1.1 403")
        assert upgrade(port, bearer, PROTOCOL, "Origin: http://localhost").startswith("HTTP/1.1 101")
        assert upgrade(port, bearer, bearer, PROTOCOL).startswith("HTTP/1.1 400")
        assert upgrade(port, bearer, PROTOCOL).startswith("HTTP/1.1 101")
        for junk in (b"\x16\x03\x01\x02\x00", b"HELO x\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(junk)
                sock.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):  # what it did not read
                    while sock.recv(65536):
                        pass
        with service.smtp() as session:
            assert session.one()[0] == 451  # nobody decides, and nobody was hurt
        assert program.stop() == 0
        assert "policy-client-refused" in program.log
        assert TOKEN not in program.log
        assert "Traceback" not in program.log


async def decide(service: Service, work: Callable[[], Any], **more: Any) -> Any:
    """Decide about what ``work``, in a thread, does: no certificate that verifies, no mail."""
    url, token = more.pop("url", service.url), more.pop("token", TOKEN)
    client = PolicyClient(url, token=token, name="bar", group="fraud", **more)

    @client.on("mailfrom")
    async def check(request: PolicyRequest) -> None:
        request.add_header("X-Checked", request.session)
        if not request.tls.verified:
            raise Reject(550, "5.7.1", f"certificate: {request.tls.verify_error}")

    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):
            await nursery.start(client.run)
        result = await trio.to_thread.run_sync(work)
        nursery.cancel_scope.cancel()
    return result


def both(service: Service) -> list[tuple[int, bytes]]:
    found = []
    for certificate in ("good", "bad", None):
        with service.smtp(certificate) as session:
            found.append(session.one())
    return found


@pytest.mark.parametrize("endpoint", ["tcp", "unix"])
async def test_a_decider_sees_the_certificate_of_each_session(tmp_path: Path, endpoint: str) -> None:
    service = Service(tmp_path)
    with service.serving() as program:
        more = {"url": f"unix:{tmp_path}/policy.sock", "token": None} if endpoint == "unix" else {}
        good, bad, none = await decide(service, lambda: both(service), **more)
        assert good[0] == 250
        assert bad[0] == 550
        assert b"certificate: unable to get local issuer" in bad[1]
        assert none == (550, b"5.7.1 certificate: no certificate presented")
        (message,) = (tmp_path / "mail" / "new").iterdir()
        assert b"\r\nX-Checked: " in message.read_bytes() or b"\nX-Checked: " in message.read_bytes()
        assert "decided_by=websocket:fraud/bar" in program.log


def command(folder: Path, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    given = [*COMMAND, verb, "--control", str(folder / "control"), *words]
    return subprocess.run(given, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=30)


TLS = 'TLS_Certificate = "server.pem" TLS_Key = "server.key" TLS_Client_CA = "ca.pem"'


async def test_certificates_of_policy_clients(tmp_path: Path) -> None:
    service = Service(tmp_path, listener=TLS)

    def context(name: str | None) -> ssl.SSLContext:
        found = ssl.create_default_context(cafile=tmp_path / "authority.pem")
        if name:
            found.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        return found

    with service.serving() as program:
        url = f"wss://localhost:{service.policy_port}/"
        found = await decide(service, lambda: both(service), url=url, token=None, ssl_context=context("good"))
        assert [code for code, _ in found] == [250, 550, 550]
        found = await decide(service, lambda: both(service), url=url, ssl_context=context(None))
        assert [code for code, _ in found] == [250, 550, 550]
        for name, token, status in (("bad", TOKEN, "403"), (None, None, "401")):
            client = PolicyClient(url, token=token, name="x", ssl_context=context(name))
            with pytest.raises(PolicyClientError, match=status):
                await client.run()
        assert "the client certificate does not verify" in program.log


@pytest.mark.parametrize(("purpose", "status"), [("", "403"), ("TLS_Client_Purpose = client-or-server", None)])
async def test_a_policy_client_with_the_certificate_of_a_server(
    tmp_path: Path, purpose: str, status: str | None
) -> None:
    service = Service(tmp_path, listener=f"{TLS} {purpose}")
    service.clients.issue("mx.example", usage=["server"]).write(tmp_path, "mx")
    context = ssl.create_default_context(cafile=tmp_path / "authority.pem")
    context.load_cert_chain(tmp_path / "mx.pem", tmp_path / "mx.key")
    with service.serving() as program:
        url = f"wss://localhost:{service.policy_port}/"
        if status is None:
            found = await decide(service, lambda: both(service), url=url, token=None, ssl_context=context)
            assert [code for code, _ in found] == [250, 550, 550]
        else:
            with pytest.raises(PolicyClientError, match=status):
                await PolicyClient(url, token=TOKEN, name="x", ssl_context=context).run()
        verified = "no" if status else "yes"
        assert f'verified={verified} client="CN=mx.example"' in program.log


async def test_a_reload_keeps_clients_and_takes_new_tokens(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving() as program:

        def reload() -> list[tuple[int, bytes]]:
            (tmp_path / "token").write_text("another-token-0123456789")
            text = service.conf.read_text().replace("Policy_Listener {", "Policy_Listener { Listen_Backlog = 7")
            service.conf.write_text(text + "\nPolicy_Fallback = reject\n")
            done = command(tmp_path, "reload")
            assert done.returncode == 0, done.stderr + done.stdout
            return both(service)

        assert [code for code, _ in await decide(service, reload)] == [250, 550, 550]  # by the client from before
        with pytest.raises(PolicyClientError, match="401"):
            await PolicyClient(service.url, token=TOKEN, name="old").run()
        found = await decide(service, lambda: both(service), token="another-token-0123456789")
        assert [code for code, _ in found] == [250, 550, 550]
        with service.smtp() as session:
            assert session.one()[0] == 550  # the new fallback
        (tmp_path / "token").write_text("short")
        done = await trio.to_thread.run_sync(command, tmp_path, "reload")
        assert done.returncode == 78
        assert "expected a token of 16" in done.stdout + done.stderr
        assert program.process.poll() is None


async def test_sessions_are_decided_about_to_their_end_then_clients_are_let_go(tmp_path: Path) -> None:
    service = Service(tmp_path)
    closed: list[str] = []
    with service.serving() as program:

        def drain() -> tuple[int, bytes]:
            with service.smtp() as session:
                assert session.docmd("MAIL FROM:<a@example.org>")[0] == 250
                program.process.send_signal(signal.SIGTERM)
                assert session.docmd("RCPT TO:<you@example.com>")[0] == 250
                assert session.docmd("DATA")[0] == 354
                session.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
                answer = session.getreply()
                session.close()
                return answer

        client = PolicyClient(service.url, token=TOKEN, name="bar", group="fraud")

        @client.on("mailfrom", "data_spool")
        async def check(request: PolicyRequest) -> None:
            closed.append(request.phase)

        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            assert (await trio.to_thread.run_sync(drain))[0] == 250
            nursery.cancel_scope.cancel()
        assert closed == ["mailfrom", "data_spool"]
        assert program.process.wait(20) == 0


async def test_the_console_shows_groups_and_clients(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving():

        def show() -> dict[str, Any]:
            both(service)
            done = command(tmp_path, "console", "show policy")
            assert "group fraud: 1 deciders at mailfrom; asked 3, answered 3" in done.stdout
            done = command(tmp_path, "console", "--json", "show policy")
            found: dict[str, Any] = json.loads(done.stdout)["data"]
            return found

        data = await decide(service, show)
        assert data["groups"][0]["group"] == "fraud"
        assert data["clients"][0]["name"] == "bar"


async def test_certificate_events_and_control_requests(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving():
        admin = PolicyClient(service.url, token=ADMIN, name="admin")
        seen = trio.Event()
        notes: list[Notification] = []

        @admin.notification("certificates.*")
        async def note(each: Notification) -> None:
            notes.append(each)
            seen.set()

        async with admin.connect():
            (listed,) = (await admin.request("certificates.list"))["certificates"]
            assert listed["names"] == ["dns:localhost", "ip:127.0.0.1"]
            service.authority.issue("localhost", dns=["localhost", "new.example"]).write(tmp_path, "server")
            with trio.fail_after(20):
                await seen.wait()
            assert notes[0].method == "certificates.reloaded"
            assert "dns:new.example" in notes[0].params["names"]
            (listed,) = (await admin.request("certificates.list"))["certificates"]
            assert "dns:new.example" in listed["names"]


def test_clients_beyond_the_most_are_turned_away(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.serving() as program:
        socks = [socket.create_connection(("127.0.0.1", service.policy_port), timeout=20) for _ in range(65)]
        try:
            gone = threading.Event()
            for sock in socks:
                sock.settimeout(0.2)
            ended = 0
            for sock in reversed(socks):
                try:
                    ended += sock.recv(1) == b""
                except TimeoutError:
                    continue
                gone.set()
                break
            assert ended == 1
        finally:
            for sock in socks:
                sock.close()
        assert "64 clients are connected already" in program.log


def test_another_user_is_refused_at_the_unix_socket(tmp_path: Path) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is missing")
    service = Service(tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            if folder.owner() != "root":
                pytest.skip("the folder cannot be opened")
            folder.chmod(0o755)
    with service.serving() as program:
        (tmp_path / "policy.sock").chmod(0o666)  # loosened by somebody: the kernel's word still holds
        script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(9))"
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script,
             str(tmp_path / "policy.sock")],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.stdout == "b''\n", done.stderr
        assert "of user 65534" in program.log
