"""Many sessions with STARTTLS, deciders that die, observers that sleep: nothing is lost, nothing waits."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio
from policy_server import TOKEN, Service, deciding, running, wait_until
from serve_process import ServeProcess

from triosmtp.policy_client import Notification, PolicyClient
from triosmtp.policy_service.json_rpc import PROTOCOL

SLEEPER = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"name":"sleeper"}}'
INITIALIZE = bytes((0x81, 0x80 | len(SLEEPER), 0, 0, 0, 0)) + SLEEPER
"""A frame as clients send it: masked, with a mask of zeros."""
FULL = bool(os.environ.get("TRIOSMTP_JUDGE"))
SESSIONS = 500 if FULL else 60
AT_ONCE = 100 if FULL else 20


def test_many_sessions_two_deciders_three_observers(tmp_path: Path) -> None:
    print(f"{SESSIONS} sessions, {AT_ONCE} at once" + ("" if FULL else ": scaled down from 500"))
    service = Service(tmp_path)
    with (
        service.serving() as server,
        running(deciding(service, tmp_path, refuse="bad"), tmp_path, "one") as one,
        running(deciding(service, tmp_path, refuse="bad"), tmp_path, "two") as two,
    ):
        one.until("ready")
        two.until("ready")
        found = trio.run(observe, service, server, one.process.kill)
        answers, seen = found
        assert len(answers) == SESSIONS
        # One decider of two was killed in the middle: not one session noticed.
        assert sum(code == 250 for code in answers) == SESSIONS // 2
        assert sum(code == 550 for code in answers) == SESSIONS - SESSIONS // 2
        assert len(list((tmp_path / "mail" / "new").iterdir())) == SESSIONS // 2
        for notes in seen:
            check_told(notes)
        two.process.kill()
        two.process.wait(30)
        before = time.monotonic()
        with service.smtp() as session:
            assert session.docmd("MAIL FROM:<good@example.org>")[0] == 451
        assert time.monotonic() - before < 5
        assert memory(server.process.pid) < 300 * 1024
        assert server.stop() == 0
        assert "Traceback" not in server.log


def check_told(notes: list[Notification]) -> None:
    """Check that the TLS variables of each session are complete, and that notifications are in order."""
    sequences = [int(note.params["sequence"]) for note in notes]
    assert sequences == sorted(set(sequences))
    sessions: dict[str, list[Notification]] = {}
    for note in notes:
        sessions.setdefault(str(note.session), []).append(note)
    assert len(sessions) == SESSIONS
    for told in sessions.values():
        methods = [note.method for note in told]
        assert methods[:2] == ["session.opened", "session.tls"]
        assert methods[-1] == "session.closed"
        variables = told[1].variables
        assert variables["tls"] == "on"
        assert variables["tls_client_verified"] == "yes"
        assert variables["tls_client_cert_sans"] == "dns:good.example"
        assert {"tls_protocol", "tls_cipher", "tls_group", "tls_client_cert_fingerprint_sha256"} <= set(variables)


def memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def observe(service: Service, server: ServeProcess, kill: "object") -> tuple[list[int], list[list[Notification]]]:
    seen: list[list[Notification]] = [[], []]
    ended = [trio.Event(), trio.Event()]
    async with trio.open_nursery() as nursery:
        for number in range(2):
            client = PolicyClient(service.url, token=TOKEN, name=f"observer{number}")

            @client.notification("session.*", "message.*")
            async def note(each: Notification, number: int = number) -> None:
                seen[number].append(each)
                if sum(n.method == "session.closed" for n in seen[number]) == SESSIONS:
                    ended[number].set()

            await nursery.start(client.run)
        # The third one never reads: its window fills up, and that is nobody's business but its own.
        stream = await trio.open_tcp_stream("127.0.0.1", service.policy_port)
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
            b"Sec-WebSocket-Protocol: " + PROTOCOL.encode() + b"\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        await stream.send_all(INITIALIZE)
        await trio.to_thread.run_sync(wait_until, service.folder, lambda: "name=sleeper" in server.log)
        answers = await trio.to_thread.run_sync(load, service, kill)
        with trio.fail_after(60):
            for each in ended:
                await each.wait()
        await stream.aclose()
        nursery.cancel_scope.cancel()
    return answers, seen


def load(service: Service, kill: "object") -> list[int]:
    assert callable(kill)
    half = threading.Barrier(AT_ONCE, action=kill)

    def one(number: int) -> int:
        with service.smtp() as session:
            if number < AT_ONCE:
                half.wait(60)  # all of the first ones are connected: the decider dies now
            return session.one("good@example.org" if number % 2 == 0 else "bad@example.org")[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(SESSIONS)))


def test_the_library_speaks_to_the_same_server_again_after_a_restart(tmp_path: Path) -> None:
    service = Service(tmp_path, "Policy_Fallback = continue")

    async def main() -> None:
        client = PolicyClient(f"unix:{tmp_path}/policy.sock", token=None, name="steady")
        opened: list[str] = []
        twice = trio.Event()

        @client.notification("session.opened")
        async def note(each: Notification) -> None:
            opened.append(str(each.session))
            if len(opened) == 2:
                twice.set()

        def once() -> None:
            with service.serving() as program:
                wait_until(tmp_path, lambda: "name=steady" in program.log)
                with service.smtp() as session:
                    assert session.one()[0] == 250
                assert program.stop() == 0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            for _ in range(2):
                await trio.to_thread.run_sync(once)
            with trio.fail_after(30):
                await twice.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
