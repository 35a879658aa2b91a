"""Real programs as clients: OpenSSL's s_client and GnuTLS's gnutls-cli, over real sockets."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import trio
from attrs import evolve
from tls_peers import close, folder, root, settings

from triosmtp.errors import HandshakeError
from triosmtp.tls import CertificateFiles, ServerContext, TLSSettings, build_context, load_material
from triosmtp.tls.handshake import handshake
from triosmtp.variables import TLSInfo
from triosmtp.x509.authority import Credential

needs_gnutls = pytest.mark.skipif(shutil.which("gnutls-cli") is None, reason="gnutls-cli is not installed")
OPENSSL = ("openssl", "s_client", "-connect", "127.0.0.1:{port}", "-crlf", "-ign_eof")
GNUTLS = ("gnutls-cli", "--insecure", "--crlf", "-p", "{port}", "127.0.0.1")
Outcome = TLSInfo | HandshakeError


@cache
def identity(name: str = "ecdsa") -> CertificateFiles:
    """Return the files of one of the server's certificates; another name has an RSA certificate."""
    if name == "ecdsa":
        return settings().certificates[0]
    credential = root().issue("localhost", dns=["localhost"], key_type="RSA-2048")
    return written(credential, name)


def written(credential: Credential, name: str) -> CertificateFiles:
    return CertificateFiles(*credential.write(folder(), name))


def context_with(**changes: Any) -> ServerContext:
    """Return an ordinary context with these settings."""
    return build_context(load_material(settings_with(**changes)))


def settings_with(**changes: Any) -> TLSSettings:
    return evolve(settings(), **changes)


async def converse(context: ServerContext, command: Sequence[str], *said: tuple[str, str]) -> tuple[str, list[Outcome]]:
    """Let a program connect and talk: after it printed the first of a pair, send the second; by default, QUIT.

    The server greets, answers every line but QUIT with 250, and records renegotiations.  Return everything that
    the program printed, and the outcomes on the server.
    """
    learnt: list[Outcome] = []

    async def serve(transport: trio.SocketStream) -> None:
        try:
            stream, info = await handshake(context, transport)
        except HandshakeError as error:
            learnt.append(error)
            await transport.aclose()
            return
        learnt.append(info)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"220 ready\r\n")
            while (line := await stream.receive_some()) not in {b"QUIT\r\n", b""}:
                again = stream.renegotiated()
                if again is not None:
                    learnt.append(again)
                await stream.send_all(b"250 " + line)
        await close(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = str(listener.socket.getsockname()[1])
        with trio.fail_after(20):
            printed = await _dialogue(
                [each.replace("{port}", port) for each in command], list(said or [("220 ready", "QUIT")])
            )
        nursery.cancel_scope.cancel()
    return printed, learnt


async def _dialogue(command: list[str], said: list[tuple[str, str]]) -> str:
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    printed = ""
    async with process.stdin, process.stdout:
        async for piece in process.stdout:
            printed += piece.decode("utf-8", "replace")
            while said and said[0][0] in printed:
                with suppress(trio.BrokenResourceError):
                    await process.stdin.send_all(said.pop(0)[1].encode() + b"\n")
        await process.wait()
    return printed


def the_only(learnt: list[Outcome]) -> TLSInfo:
    (info,) = learnt
    assert isinstance(info, TLSInfo), info
    return info


def the_failure(learnt: list[Outcome]) -> HandshakeError:
    (error,) = learnt
    assert isinstance(error, HandshakeError), error
    return error
