"""A client reads one last reply, however often the end of its session is requested."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

import triosmtp
from triosmtp.server.session.driver import SMTPSession
from triosmtp.testing import Authority, ScriptedClient

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Max_Junk_Commands = 0
TCP_Send_Buffer_Size = 4096
ESMTP_Listener {{
  TLS_Certificate = "{folder}/server.pem" TLS_Key = "{folder}/server.key"
  SMTP_Extensions = ( "STARTTLS" "PIPELINING" ) Listen "127.0.0.1:0" {{ }}
}}
"""


def close(server: triosmtp.Server) -> None:
    """Request the end of each session, as the console does."""
    for session in tuple(server.service.running):
        session.close()


def expire(server: triosmtp.Server) -> None:
    """End each session, as at the end of Drain_Timeout."""
    for session in tuple(server.service.running):
        session.expire()


def cancel(server: triosmtp.Server) -> None:
    """Cancel each session, as a second SIGTERM does."""
    server._session_tasks.cancel_scope.cancel()


def time_out(server: triosmtp.Server) -> None:
    """Let the time for a command pass."""
    for session in tuple(server.service.running):
        session.check_timeouts(trio.current_time() + 3600)


async def connect(server: triosmtp.Server) -> trio.SocketStream:
    """Return a connection whose buffer holds few replies."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(server.addresses["127.0.0.1:0"])
    return trio.SocketStream(sock)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("again", [close, expire, cancel, time_out])
@pytest.mark.parametrize(("end", "code"), [(expire, 421), (time_out, 421), (None, 221)])
async def test_a_session_that_has_ended_is_ended_again(
    tmp_path: Path,
    end: Callable[[triosmtp.Server], None] | None,
    code: int,
    again: Callable[[triosmtp.Server], None],
    tls: bool,
) -> None:
    """The client does not read, so that the last reply still waits in the server when the end is requested again."""
    authority = Authority.create()
    authority.issue("localhost", dns=["localhost"]).write(tmp_path, "server")
    config = triosmtp.parse_config(CONFIGURATION.format(folder=tmp_path))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(lambda *, task_status: triosmtp.serve(config, task_status=task_status))
            client = ScriptedClient(await connect(server))
            await client.read()
            if tls:
                await client.command("EHLO c.example.org")
                context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
                assert (await client.starttls(context)).code == 220
            await client.command("EHLO c.example.org")
            [session] = server.service.running
            await client.send(b"EHLO c.example.org\r\n" * 250 + (b"QUIT\r\n" if end is None else b""))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert isinstance(session, SMTPSession)
            assert session._stream.unsent
            if end is not None:
                end(server)
                await trio.testing.wait_all_tasks_blocked(0.01)
            again(server)
            await trio.testing.wait_all_tasks_blocked(0.01)
            lines = (await client.read_eof()).split(b"\r\n")
            await client.aclose()
            nursery.cancel_scope.cancel()
    last = [line for line in lines if line[:4] in {b"221 ", b"421 "}]
    assert ([int(line[:3]) for line in last], lines[-2:]) == ([code], [*last, b""])
