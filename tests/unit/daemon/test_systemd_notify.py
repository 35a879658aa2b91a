"""The notifications to systemd over its socket."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from life_server import Place, public_place
from serve_process import LineClient

from triosmtp.daemon.systemd_notify import SystemdNotifier, ping_watchdog

LISTEN = 'Listen "127.0.0.1:0" { }'


class Manager:
    """The end of systemd."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.settimeout(30)

    def hear(self) -> dict[str, str]:
        """Wait for the next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))

    def until(self, key: str) -> dict[str, str]:
        """Wait for the next message that says something of `key`."""
        while key not in (said := self.hear()):
            pass
        return said

    def set_timeout(self, seconds: float) -> None:
        """Wait no longer than that for a message."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        yield place


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, place: Place) -> Iterator[Manager]:
    address = f"{place.folder}/notify" if request.param == "path" else f"@triosmtp-test-{os.getpid()}"
    manager = Manager(address)
    yield manager
    manager.close()


def test_the_manager_is_notified_of_each_state(place: Place, manager: Manager) -> None:
    place.write(LISTEN)
    with place.serving({"NOTIFY_SOCKET": manager.address}) as process:
        said = manager.hear()
        assert (said["READY"], said["STATUS"]) == ("1", "serving")
        with LineClient(process.port()) as client:
            assert client.read().startswith("220 "), "READY means that it serves"

        before = time.monotonic_ns() // 1000
        process.signal(signal.SIGHUP)
        said = manager.hear()
        assert said["RELOADING"] == "1"
        assert before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.hear() == {"READY": "1", "STATUS": "serving"}

        place.write(LISTEN + " Nonsense = 1")
        process.signal(signal.SIGHUP)
        assert manager.hear()["RELOADING"] == "1"
        assert manager.hear() == {"READY": "1", "STATUS": "serving; the last reload failed"}

        process.signal(signal.SIGTERM)
        assert manager.hear() == {"STOPPING": "1", "STATUS": "draining", "EXTEND_TIMEOUT_USEC": "105000000"}
        assert process.process.wait(30) == 0


async def test_signs_of_life_come_twice_as_often_as_is_asked_for(
    manager: Manager, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    notifier = SystemdNotifier.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "4000000"})
    nursery.start_soon(ping_watchdog, notifier)
    for waited, signs in ((0, 1), (1.9, 0), (0.1, 1), (2, 1)):
        mock_clock.jump(waited)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(signs):
            assert manager.hear() == {"WATCHDOG": "1"}
        manager.set_timeout(0)
        with pytest.raises(BlockingIOError):
            manager.hear()
        manager.set_timeout(30)
    notifier.close()


def test_the_watchdog_gets_no_ping_from_a_blocked_loop(place: Place, manager: Manager) -> None:
    (place.folder / "stuck.py").write_text(
        "import time\n"
        "from triosmtp import Policy\n"
        "class Stuck(Policy):\n"
        "    async def validate_ehlo(self, *_):\n"
        f"        open({str(place.folder / 'stuck')!r}, 'w').close()\n"
        "        time.sleep(60)\n"
    )
    place.write(LISTEN, 'Policy = ( "python:stuck:Stuck" )')
    with place.serving({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}) as process:
        port = process.port()
        manager.until("WATCHDOG")
        manager.until("WATCHDOG")
        with LineClient(port) as client:
            client.read()
            client.say("EHLO client.example")
            manager.set_timeout(2)
            with pytest.raises(TimeoutError):
                manager.until("silence")
        assert (place.folder / "stuck").exists()


def test_a_watchdog_of_another_process_is_ignored() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "PATH": "/bin"}
    notifier = SystemdNotifier.from_environment(environment)
    assert notifier.watchdog is None
    assert environment == {"PATH": "/bin"}, "no child speaks in our name"
    notifier.close()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"WATCHDOG_USEC": "1000000"}])
def test_without_a_manager_there_are_no_notifications(environment: dict[str, str]) -> None:
    notifier = SystemdNotifier.from_environment(environment)
    notifier.notify_ready("serving")
    assert notifier.watchdog is None


def test_a_manager_that_is_gone_or_does_not_read_blocks_nothing(tmp_path: Path) -> None:
    gone = SystemdNotifier(f"{tmp_path}/nothing")
    gone.notify_ready("serving")
    gone.close()
    manager = Manager(f"{tmp_path}/deaf")
    notifier = SystemdNotifier(manager.address)
    for _ in range(10_000):
        notifier.notify_status("one\ntwo")
    assert manager.hear() == {"STATUS": "one two"}
    manager.close()
    notifier.close()
