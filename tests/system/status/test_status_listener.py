"""The Status_Listener as a whole: what is answered, to whom, and how it follows the configuration."""

import os
import smtplib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from serve_process import REPOSITORY
from status_server import MAIL, STATUS, daemon, get, serving

from triosmtp.commands.check_command import check_config
from triosmtp.config import parse_config
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.errors import ConfigError, Severity
from triosmtp.status import application, exposition
from triosmtp.status.request_access import AccessGuard

TOKEN = "a-token-of-many-characters"


def listener(token: Path | None = None, options: str = "", address: str = "127.0.0.1:0") -> str:
    given = "" if token is None else f'Token_File = "{token}"'
    return f'{MAIL} Status_Listener {{ {given} {options} Listen "{address}" {{ }} }}'


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


# What is answered


async def test_a_server_that_drains_is_healthy_and_not_ready() -> None:
    async with serving() as here, await trio.open_tcp_stream("127.0.0.1", here.mail_port) as client:
        assert (await client.receive_some()).startswith(b"220 ")
        await client.send_all(b"EHLO a\r\nMAIL FROM:<a@b.example>\r\n")
        while b"250 2.1.0" not in await client.receive_some():
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.server.aclose)
            await trio.testing.wait_all_tasks_blocked()
            assert (await get(here.port, "/healthz")).status == 200
            response = await get(here.port, "/readyz")
            assert (response.status, response.body) == (503, "draining\n")
            await client.send_all(b"QUIT\r\n")


# Who may come in


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST.:9464", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9464", 200),
        ("status.example.org:9464", 200),
        ("Status.Example.ORG", 200),
        ("localhost.evil.example", 421),
        ("evil.example", 421),
        ("192.0.2.1", 421),
        ("localhost:evil", 421),
        ("localhost:80@evil.example", 421),
        ("[::1].evil.example", 421),
        ("", 421),
    ],
)
async def test_a_name_that_is_not_ours_is_refused(host: str, status: int) -> None:
    async with serving(listener(options='Host_Names = ( "status.example.org" )')) as here:
        assert (await get(here.port, "/healthz", host)).status == status


async def test_on_every_address_any_address_will_do_but_no_name(token: Path) -> None:
    async with serving(listener(token, address=":0")) as here:
        authorization = f"Authorization: Bearer {TOKEN}"
        assert (await get(here.port, "/healthz", "192.0.2.1", authorization)).status == 200
        assert (await get(here.port, "/healthz", "evil.example", authorization)).status == 421


async def test_two_hosts_are_none() -> None:
    async with serving() as here:
        assert (await get(here.port, "/healthz", "localhost", "Host: localhost")).status == 400


async def test_with_a_token_file_nothing_is_answered_without_the_token(token: Path) -> None:
    async with serving(listener(token)) as here:
        for path in ("/healthz", "/readyz", "/events", "/page.js", "/metrics", "/nothing"):
            response = await get(here.port, path)
            assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
        assert (await get(here.port, "/")).headers["location"] == "/login"
        for given in (
            "Bearer",
            "Bearer x",
            f"Basic {TOKEN}",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer \xff",
        ):
            assert (await get(here.port, "/healthz", "localhost", f"Authorization: {given}")).status == 401
        for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            assert (await get(here.port, "/healthz", "localhost", f"Authorization: {given}")).status == 200
        twice = [f"Authorization: Bearer {TOKEN}"] * 2
        assert (await get(here.port, "/healthz", "localhost", *twice)).status == 401


async def test_a_token_that_was_changed_holds_after_the_reload_for_open_connections_too(token: Path) -> None:
    text = listener(token)
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    async with serving(text) as here, await trio.open_tcp_stream("127.0.0.1", here.port) as client:
        await client.send_all(request)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
        token.write_text("another-token-of-many-characters")  # noqa: ASYNC240
        await here.reload(text)
        await client.send_all(request)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 401")


# What goes on


# The configuration


@pytest.mark.parametrize("address", [":9464", "[*]:9464", "192.0.2.1:9464", "[2001:db8::1]:9464", "0.0.0.0:9464"])
def test_beyond_loopback_a_token_is_demanded(address: str) -> None:
    with pytest.raises(ConfigError, match="is not on a loopback address: it needs a Token_File") as caught:
        parse_config(listener(address=address))
    assert f'Listen "{address}"' in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:9464", "127.9.9.9:9464", "[::1]:9464", "/run/status"])
def test_on_this_host_none_is_needed(address: str) -> None:
    assert len(parse_config(listener(address=address)).status_listens) == 1


def test_nothing_of_the_global_scope_holds_in_it() -> None:
    with pytest.raises(ConfigError, match="Token_File is not valid in the global scope"):
        parse_config(f'Token_File = "/t" {MAIL}')
    with pytest.raises(ConfigError, match="Idle_Time is not valid in a Status_Listener"):
        parse_config(f"{MAIL} Status_Listener {{ Idle_Time = 3 }}")


def test_enable_false_leaves_it_out() -> None:
    assert not parse_config(f'{MAIL} Status_Listener {{ Enable = false Listen ":9464" {{ }} }}').status_listens


def test_the_address_of_another_listener_is_refused() -> None:
    text = "ESMTP_Listener { Listen '127.0.0.1:25' { } } Status_Listener { Listen '127.0.0.1:25' { } }"
    with pytest.raises(ConfigError, match=r"is the address of Listen \"127\.0\.0\.1:25\" at"):
        parse_config(text)


async def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    for name, reason in (("none", "No such file"), ("short", "expected a token of 16 to 4096 characters")):
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConfigError, match=f"Token_File: .*{name}: {reason}"), flatten_subgroups=True
        ):
            async with serving(listener(tmp_path / name)):
                pass  # pragma: no cover


def test_check_looks_at_token_files_too(tmp_path: Path) -> None:
    problems = check_config(parse_config(listener(tmp_path / "none")))
    assert any(problem.severity is Severity.ERROR and "none: No such file" in problem.message for problem in problems)


def test_a_token_file_that_others_can_read_is_a_danger(token: Path) -> None:
    token.chmod(0o644)
    warnings = [problem.message for problem in config_warnings(parse_config(listener(token)))]
    assert any("Token_File" in text and "DANGER: others can read" in text for text in warnings)


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "starlette"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError('not here')\n")
    config = tmp_path / "server.conf"
    config.write_text(f"{MAIL} {STATUS}")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = (sys.executable, "-m", "triosmtp", "serve", "-c", str(config), "--control", str(tmp_path / "c"))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 78
    assert "server.conf:1:" in done.stderr
    assert 'of a Status_Listener needs starlette: pip install "triosmtp[status]"' in done.stderr


async def test_it_follows_reloads() -> None:
    async with serving(MAIL) as here:
        assert not here.status.addresses
        await here.reload(f"{MAIL} {STATUS}")
        first = here.port
        assert (await get(first, "/healthz")).status == 200
        await here.reload(f"{MAIL} {STATUS}")
        assert here.port == first
        await here.reload(MAIL)
        with pytest.raises(OSError, match="all attempts to connect"):
            await get(first, "/healthz")


# As a process


def curl(*arguments: str) -> str:
    done = subprocess.run(("curl", "-sS", "--max-time", "20", *arguments), capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def test_curl_finds_a_daemon_on_tcp_and_on_a_unix_socket(tmp_path: Path) -> None:
    text = f'{MAIL} Status_Listener {{ Listen "127.0.0.1:0" {{ }} Listen "./status" {{ }} }}'
    with daemon(tmp_path, text) as here:
        port = here.port('Status Listen "127.0.0.1:0"')
        assert curl(f"http://127.0.0.1:{port}/healthz", f"http://localhost:{port}/readyz") == "ok\nok\n"
        assert curl("--unix-socket", str(tmp_path / "status"), "http://localhost/healthz") == "ok\n"
        assert curl("-I", f"http://127.0.0.1:{port}/healthz").startswith("HTTP/1.1 200 OK")
        assert curl("-o/dev/null", "-w%{http_code}", "-d", "a=b", f"http://127.0.0.1:{port}/healthz") == "405"
    assert not (tmp_path / "status").exists()


def test_with_workers_one_scrape_is_of_them_all(tmp_path: Path) -> None:
    with daemon(tmp_path, f"Workers = 2 {MAIL} {STATUS}") as here:
        mail, port = here.port('Listen "127.0.0.1:0"'), here.port('Status Listen "127.0.0.1:0"')
        clients = [smtplib.SMTP("127.0.0.1", mail, timeout=30) for _ in range(4)]
        for client in clients:
            client.sendmail("a@b.example", ["c@example.org"], b"Subject: x\r\n\r\nbody\r\n")
        for what in (
            'triosmtp_messages_total{listener="127.0.0.1:0",result="accepted"} 4.0',
            'triosmtp_sessions{listener="127.0.0.1:0"} 4.0',
            'triosmtp_sessions_total{listener="127.0.0.1:0"} 4.0',
            'triosmtp_target_answers_total{class="2xx",target="discard:"} 4.0',
            'triosmtp_events_lost_total{observer="stderr"} 0.0',
        ):
            assert until(port, what)
        for client in clients:
            client.quit()
        assert until(port, 'triosmtp_sessions_ended_total{reason="quit"} 4.0')
        assert until(port, 'triosmtp_commands_total{command="DATA"} 4.0')


def until(port: int, line: str) -> bool:
    """Scrape until a line is there: what a worker tells is on its way for a moment."""
    end = time.monotonic() + 20
    while f"\n{line}\n" not in curl(f"http://127.0.0.1:{port}/metrics"):
        assert time.monotonic() < end, line
    return True


# What many requests cost the others


async def test_pipelined_requests_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [0]
    answer = AccessGuard.__call__

    async def counted(self: AccessGuard, *arguments: Any) -> None:
        begun[-1] += 1
        await answer(self, *arguments)

    async def watch() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            begun.append(0)

    monkeypatch.setattr(AccessGuard, "__call__", counted)
    async with serving() as here, trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", here.port)
            async with stream:
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                data = b""
                while data.count(b"200 OK") < 100:
                    data += await stream.receive_some()
        nursery.cancel_scope.cancel()
    assert sum(begun) == 300
    assert max(begun) < 10  # the order within a round is Trio's; without turns it would be 100


async def test_metrics_are_written_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    writing = most = 0
    write = exposition.write_exposition

    def watched(*arguments: Any) -> Any:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        try:
            return write(*arguments)
        finally:
            writing -= 1

    monkeypatch.setattr(application, "write_exposition", watched)
    async with serving() as here, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(get, here.port, "/metrics")
    assert most == 1
