"""Questions to JetStream that have no good answer, and the monitoring port.  What is wrong: test_stream_delivery.py."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nats_servers import NATSProcess, free_ports, run_nats
from stream_site import stream_address

from triosmtp.jetstream.nats_client import NATSLogin, open_connection
from triosmtp.jetstream.nats_thread import NATSUnavailableError
from triosmtp.jetstream.stream_query import query_stream, syncs_always


def test_a_server_without_jetstream_is_unavailable(tmp_path: Path) -> None:
    async def run(server: NATSProcess) -> None:
        connection = await open_connection(("127.0.0.1", server.port), NATSLogin())
        try:
            with pytest.raises(NATSUnavailableError, match="not enabled"):
                await query_stream(connection, stream_address(server))
        finally:
            await connection.close()

    with run_nats(tmp_path, "jetstream: false\n") as server:
        asyncio.run(run(server))


def test_a_user_without_permission_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triosmtp.jetstream.stream_query._TIMEOUT", 0.2)
    password = tmp_path / "password"
    password.write_text("p")
    permissions = 'permissions: { publish: "mail.>", subscribe: "_INBOX.>" }'
    config = f"authorization {{ users: [ {{ user: u, password: p, {permissions} }} ] }}\n"

    async def run(server: NATSProcess) -> None:
        connection = await open_connection(("127.0.0.1", server.port), NATSLogin(user="u", password_file=password))
        try:
            with pytest.raises(NATSUnavailableError, match="permissions"):
                await query_stream(connection, stream_address(server))
        finally:
            await connection.close()

    with run_nats(tmp_path / "n", config) as server:
        asyncio.run(run(server))


def test_the_monitoring_port_says_whether_each_message_is_synced(nats_server: NATSProcess, tmp_path: Path) -> None:
    assert syncs_always(f"http://127.0.0.1:{nats_server.monitor}") is False
    with run_nats(tmp_path, "jetstream { store_dir: STORE, sync_interval: always }\n") as server:
        assert syncs_always(f"http://127.0.0.1:{server.monitor}") is True


def test_a_monitoring_port_that_does_not_answer_is_an_error(nats_server: NATSProcess) -> None:
    (port,) = free_ports(1)
    with pytest.raises(OSError, match="refused"):
        syncs_always(f"http://127.0.0.1:{port}")
    with pytest.raises((OSError, ValueError)):
        syncs_always(f"http://127.0.0.1:{nats_server.port}")


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"null", b"x", b'{"jetstream":{}}', b'{"jetstream":{"config":1}}'])
def test_another_answer_is_an_error(answer: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
    with answering(data) as port, pytest.raises(ValueError, match=r"not the monitoring port|Expecting value"):
        syncs_always(f"http://127.0.0.1:{port}")


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """Send ``data`` to the first client of a port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
