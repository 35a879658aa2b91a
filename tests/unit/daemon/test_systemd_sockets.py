"""The listening sockets that systemd passes."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from life_server import Place, Process, public_place
from serve_process import LineClient, free_port

# As systemd does: the sockets at 3 and on, and the variables.  systemd-socket-activate would bind them itself.


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with public_place() as place:
        yield place


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(family: int, address: object, stack: ExitStack, *, dual: bool = True) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    sock.bind(address)  # type: ignore[arg-type]  # of that family
    sock.listen(50)
    return sock


def passing(place: Place, *sockets: socket.socket, names: str = "") -> "PassedProcess":
    return PassedProcess(place, sockets, names)


class PassedProcess:
    """`serving` with sockets at their places, and a LISTEN_PID that is right."""

    def __init__(self, place: Place, sockets: tuple[socket.socket, ...], names: str) -> None:
        self._stack = ExitStack()
        self._place, self._sockets, self._names = place, sockets, names

    def environment(self) -> dict[str, str]:
        return {"LISTEN_FDS": str(len(self._sockets)), "LISTEN_FDNAMES": self._names}

    def preexec(self) -> Callable[[], None]:
        numbers = [sock.fileno() for sock in self._sockets]

        def place_them() -> None:
            high = [os.dup2(number, 100 + index) for index, number in enumerate(numbers)]
            for index, number in enumerate(high):
                os.dup2(number, 3 + index)
                os.close(number)

        return place_them

    def __enter__(self) -> Process:
        # Only the process itself knows its number: a shell in its place tells it, and is replaced.
        return self._stack.enter_context(
            self._place.serving(
                self.environment(), self.preexec(), keep=tuple(range(3, 3 + len(self._sockets))), own_pid=True
            )
        )

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]  # what the interpreter gives


def test_a_socket_is_taken_by_its_address_and_outlives_the_server(place: Place, opened: ExitStack) -> None:
    ours, port = listening(socket.AF_INET, ("127.0.0.1", 0), opened), free_port()
    number = ours.getsockname()[1]
    place.write(f'Listen "127.0.0.1:{port}" {{ }} Listen "127.0.0.1:{number}" {{ }}')
    with LineClient(number) as early:  # before there was a server
        with passing(place, ours, names="smtp") as process:
            process.wait_until_ready()
            assert early.read().startswith("220 ")
            with LineClient(port) as client:
                assert client.read().startswith("220 "), "the other Listen is bound as ever"
            assert process.stop() == 0
        with LineClient(number) as late, passing(place, ours, names="smtp") as process:
            assert late.read().startswith("220 "), "it waited for the next server"
            process.wait_until_ready()
            process.stop()


def test_wildcards_and_unix_sockets(place: Place, opened: ExitStack) -> None:
    both = listening(socket.AF_INET6, ("::", 0), opened)
    path = f"{place.folder}/smtp"
    unix = listening(socket.AF_UNIX, path, opened)
    place.write(f'Listen ":{both.getsockname()[1]}" {{ }} Listen "{path}" {{ }}')
    with passing(place, both, unix) as process:
        process.wait_until_ready()
        with LineClient(both.getsockname()[1]) as client:
            assert client.read().startswith("220 ")
        with socket.socket(socket.AF_UNIX) as client_socket:
            client_socket.settimeout(30)
            client_socket.connect(path)
            assert client_socket.recv(100).startswith(b"220 ")
        assert place.run("reload", "--control", f"{place.own}/control").returncode == 0
        process.stop()
    assert os.path.exists(path), "the path is systemd's"  # noqa: PTH110


def test_a_status_listener_takes_its_socket_too(place: Place, opened: ExitStack) -> None:
    ours = listening(socket.AF_INET, ("127.0.0.1", 0), opened)
    number = ours.getsockname()[1]
    place.write('Listen "127.0.0.1:0" { }', f'Status_Listener {{ Listen "127.0.0.1:{number}" {{ }} }}')
    with passing(place, ours) as process:
        process.wait_until_ready()
        with LineClient(number) as client:
            assert client.ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n") == "HTTP/1.1 200 OK"
        process.stop()


def refusal(place: Place, *sockets: socket.socket, names: str = "") -> str:
    with passing(place, *sockets, names=names) as process:
        assert process.process.wait(30) == 78
    return place.log


def test_a_socket_that_no_listen_wants_is_an_error(place: Place, opened: ExitStack) -> None:
    ours = listening(socket.AF_INET, ("127.0.0.1", 0), opened)
    place.write(f'Listen "127.0.0.1:{free_port()}" {{ }}')
    told = refusal(place, ours, names="smtp")
    words = f'descriptor 3 that systemd passed ("smtp"): no Listen has the address 127.0.0.1:{ours.getsockname()[1]}'
    assert words in told


def test_ipv6_alone_is_not_every_address(place: Place, opened: ExitStack) -> None:
    ours = listening(socket.AF_INET6, ("::", 0), opened, dual=False)
    place.write(f'Listen ":{ours.getsockname()[1]}" {{ }}')
    assert "no Listen has the address [::]:" in refusal(place, ours)


def test_an_inherited_socket_that_does_not_listen_is_an_error(place: Place, opened: ExitStack) -> None:
    first, second = socket.socketpair()
    opened.enter_context(first)
    opened.enter_context(second)
    datagrams = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    place.write('Listen "127.0.0.1:0" { }')
    told = refusal(place, first, datagrams)
    assert told.count("is not a listening stream socket: expected ListenStream= without Accept=yes") == 2


def test_variables_for_another_process_are_not_heeded(place: Place) -> None:
    place.write('Listen "127.0.0.1:0" { }')
    with place.serving({"LISTEN_FDS": "3", "LISTEN_PID": "1"}) as process:
        process.wait_until_ready()
        assert process.stop() == 0
