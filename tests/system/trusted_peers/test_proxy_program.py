"""HAProxy in front of the server: real headers of both versions, before plaintext and before TLS."""

import os
import shutil
import socket
import ssl
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp.message import Message
from triosmtp.testing import Authority, ScriptedClient


def haproxy() -> str:
    path = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("haproxy is not installed")
    return path


CONF = """
Banner_Hostname = "mx.example.com"
Relay_Domains = ( "example.com" )
Proxy_Protocol = ( "127.0.0.1" )
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
ESMTP_Listener {{
  Listen "127.0.0.1:0" {{
    Peer "127.0.0.5" {{ Static_Banner = "220 this is for 127.0.0.5" }}
    Peer "127.0.0.1" {{ Static_Banner = "220 this is for the proxy" }}
  }}
  Listen "127.0.0.2:0" {{ Use_SSL = true }}
}}
"""
PROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen one
    bind fd@{one}
    server us 127.0.0.1:{plain} send-proxy
listen two
    bind fd@{two}
    unique-id-format id-%[src]
    server us 127.0.0.1:{plain} send-proxy-v2 proxy-v2-options crc32c,unique-id
listen through
    bind fd@{through}
    server us 127.0.0.2:{implicit} source 127.0.0.1 send-proxy-v2
listen ended
    bind fd@{ended} ssl crt {folder}/both.pem ca-file {folder}/ca.pem verify optional crt-ignore-err all
    server us 127.0.0.1:{plain} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-key,cert-sig,authority
"""


async def connect(port: int, source: str = "127.0.0.5") -> trio.SocketStream:
    sock = trio.socket.socket()
    await sock.bind((source, 0))
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


async def test_clients_behind_haproxy_are_seen_as_themselves(tmp_path: Path) -> None:
    program = haproxy()
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    authority = Authority.create()
    server_files = authority.issue("localhost", dns=["localhost"])
    client_files = authority.issue("client.example.org")
    server_files.write(tmp_path, "server")
    (tmp_path / "both.pem").write_bytes(server_files.certificate_pem + server_files.key_pem)
    (tmp_path / "client.pem").write_bytes(client_files.certificate_pem + client_files.key_pem)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    config = triosmtp.parse_config(CONF.format(folder=tmp_path))
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "client.pem")
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 30  # HAProxy may not come at all
        server = await nursery.start(partial(triosmtp.serve, config, deliver=keep))
        # HAProxy inherits them: a client that connects before HAProxy runs waits in their backlog.
        sockets = {
            name: stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for name in ("one", "two", "through", "ended")
        }
        descriptors = {name: sock.fileno() for name, sock in sockets.items()}
        plain, implicit = (server.addresses[f"127.0.0.{i}:0"][1] for i in (1, 2))
        (tmp_path / "haproxy.cfg").write_text(
            PROXY.format(folder=tmp_path, plain=plain, implicit=implicit, **descriptors)
        )
        nursery.start_soon(
            partial(
                trio.run_process,
                [program, "-db", "-q", "-f", str(tmp_path / "haproxy.cfg")],
                check=False,
                pass_fds=tuple(descriptors.values()),
            )
        )
        for name, sock in sockets.items():
            client = ScriptedClient(await connect(sock.getsockname()[1]))
            stack.push_async_callback(client.aclose)
            if name in {"through", "ended"}:
                await client.handshake(context, "localhost")
            banner = (await client.read()).text
            assert banner == ("mx.example.com ESMTP" if name == "through" else "this is for 127.0.0.5")
            assert (await client.command("EHLO client.example.org")).code == 250
            answer = await client.message("me@example.org", ["you@example.com"], b"Subject: hi\r\n\r\n")
            assert answer.code == 250
        nursery.cancel_scope.cancel()
    one, two, through, ended = messages
    for message in messages:
        assert b"([127.0.0.5])" in message.trace
        assert message.variables["real_peer"].startswith("127.0.0.1:")
    assert one.variables["proxy_protocol"] == "1"
    assert two.variables["proxy_protocol"] == "2"
    assert two.variables["proxy_unique_id"] == "id-127.0.0.5"
    assert through.variables["tls"] == "on"
    assert "tls" not in ended.variables
    told = {key: value for key, value in ended.variables.items() if key.startswith("proxy_ssl") or "authority" in key}
    assert told.pop("proxy_ssl_cipher").startswith("TLS_")
    assert told.pop("proxy_ssl_sig_alg")
    assert told.pop("proxy_ssl_key_alg")
    assert told == {
        "proxy_ssl": "on",
        "proxy_ssl_version": "TLSv1.3",
        "proxy_ssl_client_certificate": "yes",
        "proxy_ssl_client_verified": "yes",
        "proxy_ssl_client_cn": "client.example.org",
        "proxy_authority": "localhost",
    }
