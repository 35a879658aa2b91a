"""Handshakes that fail, told apart in event and log line, by real clients on real sockets."""

import io
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp.event import ServerEvent, TLSFailed
from triosmtp.logs.event_log import EventLog
from triosmtp.testing import Authority
from triosmtp.tls import REASONS

CONF = """
Relay_Domains = ( "example.com" )
ESMTP_Listener {
  TLS_Certificate = "{folder}/cert.pem"
  TLS_Key = "{folder}/cert.key"
  TLS_Protocols = "+TLSv1.2"
  TLS_Ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"
  TLS_Handshake_Timeout = 1
  Listen "127.0.0.1:0" { SMTP_Extensions = ( "STARTTLS" ) }
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    Authority.create().issue("localhost", dns=["localhost"]).write(folder, "cert")
    return folder


def shake(sock: socket.socket, *, version: str = "TLSv1_2", ciphers: str = "DEFAULT", trusts: bool = False) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    if not trusts:
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)


def wait(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


FAILURES: list[tuple[Callable[[socket.socket], None], str, str]] = [
    (partial(shake, version="TLSv1_3"), "no_common_version", 'detail="unsupported protocol"'),
    (partial(shake, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"), "no_common_cipher", 'detail="no shared cipher"'),
    (partial(shake, trusts=True), "peer_alert", "detail=unknown_ca"),
    (lambda sock: sock.sendall(b"EHLO c.example.org\r\n"), "not_tls", "detail="),
    (lambda sock: sock.shutdown(socket.SHUT_WR), "peer_closed", 'detail="end of file"'),
    (wait, "timed_out", 'detail="after 1 s"'),
]


def client(address: tuple[str, int], fail: Callable[[socket.socket], None] | None) -> None:
    with socket.create_connection(address, timeout=10) as sock:
        for line in (b"", b"EHLO c.example.org\r\n", b"STARTTLS\r\n" if fail else b"STARTTLS\r\nNOOP\r\n"):
            sock.sendall(line)
            sock.recv(4096)
        if fail:
            fail(sock)
        wait_quietly(sock)


def wait_quietly(sock: socket.socket) -> None:
    try:
        wait(sock)
    except OSError:
        return


@pytest.mark.parametrize(("fail", "reason", "detail"), [*FAILURES, (None, "injection", "detail=")])
async def test_the_reason_is_in_the_event_and_in_the_log(
    folder: Path, fail: Callable[[socket.socket], None] | None, reason: str, detail: str
) -> None:
    events: list[ServerEvent] = []
    log = io.StringIO()

    async def drop(message: triosmtp.Message) -> None:
        return None

    config = triosmtp.parse_config(CONF.replace("{folder}", str(folder)))
    observers = (events.append, EventLog(log))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, config, deliver=drop, observers=observers))
        await trio.to_thread.run_sync(client, server.addresses["127.0.0.1:0"], fail)
        await server.aclose()
    [failed] = [event for event in events if isinstance(event, TLSFailed)]
    assert failed.reason == reason
    assert failed.reason in REASONS
    [line] = [line for line in log.getvalue().splitlines() if " tls-failed " in line]
    assert (
        f" session={failed.session.id} peer={failed.session.peer} listener=127.0.0.1:0 reason={reason} {detail}" in line
    )
    assert server.statistics.handshakes_failed == 1
