"""The PROXY header of a trusted proxy."""

import struct
from functools import partial
from pathlib import Path

import pytest
import trio

import triosmtp
from triosmtp.config import OPTIONS
from triosmtp.event import Connected, ConnectionRefused
from triosmtp.testing import ScriptedClient, open_memory_server

CONF = """
Relay_Domains = ( "example.com" )
Banner_Hostname = "mx.example.com"
Proxy_Protocol = ( "10.0.0.0/8" "2001:db8:1::/48" )
Proxy_Protocol_Timeout = 3
ESMTP_Listener {
  Listen ":25" {
    Peer "203.0.113.0/24" { Static_Banner = "220 hello to 203.0.113.0/24" Relay_Hosts = ( "203.0.113.7" ) }
    Peer "203.0.113.9" { Listener_Sessions = 1 }
  }
}
"""
LINE = b"PROXY TCP4 203.0.113.7 198.51.100.25 40000 25\r\n"


async def mail(client: ScriptedClient, recipient: str = "you@example.com") -> int:
    for line in ("EHLO c", "MAIL FROM:<me@example.org>"):
        assert (await client.command(line)).code == 250
    answer = await client.command(f"RCPT TO:<{recipient}>")
    if answer.code == 250:
        assert (await client.command("DATA")).code == 354
        await client.send(b"Subject: hi\r\n\r\nx\r\n.\r\n")
        return (await client.read()).code
    return answer.code


async def test_an_announced_client_has_its_own_settings_and_log_fields() -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="10.1.2.3")
        await client.send(LINE + b"EHLO pipelined\r\n")
        assert (await client.read()).text == "hello to 203.0.113.0/24"
        assert (await client.read()).code == 250
        assert await mail(client, "away@elsewhere.example") == 250  # Relay_Hosts names the client
    [connected] = [e for e in server.events if isinstance(e, Connected)]
    assert (connected.session.peer, connected.session.local) == ("203.0.113.7:40000", "198.51.100.25:25")
    assert connected.variables["real_peer"] == "10.1.2.3:1024"
    [message] = server.messages
    assert b"[203.0.113.7]" in message.trace
    assert b"10.1.2.3" not in message.trace
    assert message.variables["proxy_protocol"] == "1"
    assert message.variables["can_relay"] == "true"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)])
async def test_a_connection_of_the_proxy_itself_is_its_own(header: bytes) -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="10.1.2.3")
        await client.send(header)
        assert (await client.read()).text == "mx.example.com ESMTP"
        assert await mail(client) == 250
    assert b"[10.1.2.3]" in server.messages[0].trace
    assert "real_peer" not in server.messages[0].variables


async def test_only_a_trusted_proxy_can_announce_a_client() -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="192.0.2.1")
        assert (await client.read()).code == 220
        assert (await client.command(LINE.decode().strip())).code == 500
        assert await mail(client, "away@elsewhere.example") == 550


@pytest.mark.parametrize("first", [b"EHLO x\r\n" * 3, LINE[:-2] + b"\n" + bytes(90), b"PROXY TCP4 " + b"1" * 200])
async def test_a_proxy_without_a_header_is_not_answered(first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="10.1.2.3")
        await client.send(first)
        assert await client.read_eof() == b""
        assert server.events == [ConnectionRefused(peer="10.1.2.3:1024", listener=":25", reason="Proxy_Protocol")]
        assert server.service.statistics.sessions_total == 0
    assert "proxy 10.1.2.3:1024 sent no valid PROXY header" in caplog.text


async def test_a_header_that_does_not_end_is_given_up_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_server(CONF) as server:
        client, began = server.connect(peer="10.1.2.3"), trio.current_time()
        for octet in LINE[:2]:
            await client.send(bytes([octet]))
            await trio.sleep(1)
        assert await client.read_eof() == b""
        assert trio.current_time() - began == pytest.approx(3)
        assert server.events == [
            ConnectionRefused(peer="10.1.2.3:1024", listener=":25", reason="Proxy_Protocol_Timeout")
        ]


async def test_a_proxy_that_only_looks_whether_the_port_is_open_is_no_event() -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="10.1.2.3")
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.events == []


async def test_limits_are_those_of_the_client_and_are_given_back() -> None:
    line = LINE.replace(b".7 ", b".9 ")
    async with open_memory_server(CONF) as server:
        for _ in range(2):
            first, second = server.connect(peer="10.1.2.3"), server.connect(peer="10.1.2.3")
            await first.send(line)
            assert (await first.read()).code == 220
            await second.send(line)
            assert (await second.read()).code == 421
            assert await second.read_eof() == b""
            assert (await first.command("QUIT")).code == 221
            assert await first.read_eof() == b""
            await trio.testing.wait_all_tasks_blocked()
            assert server.service.statistics.sessions == 0
    refused = [e for e in server.events if isinstance(e, ConnectionRefused)]
    assert [(e.peer, e.reason) for e in refused] == [("203.0.113.9:40000", "Listener_Sessions")] * 2


async def test_a_unix_socket_can_be_a_proxys(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    text = f'Proxy_Protocol = ( "unix" )\nESMTP_Listener {{ Listen "{path}" {{ }} }}'
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(triosmtp.serve, triosmtp.parse_config(text), deliver=drop))
        client = ScriptedClient(await trio.open_unix_socket(str(path)))
        await client.send(LINE)
        assert (await client.read()).code == 220
        answer = await client.command("EHLO x")
        assert answer.code == 250
        await client.aclose()
        nursery.cancel_scope.cancel()


async def drop(message: triosmtp.Message) -> None:
    return None


def test_the_option_is_written_as_it_is_read() -> None:
    config = triosmtp.parse_config('Proxy_Protocol = ( 10.0.0.0/8 unix )\nESMTP_Listener { Listen ":25" { } }')
    value = config.resolve(config.listens[0], None).proxy_protocol
    assert OPTIONS["proxy_protocol"].write(value) == '( "10.0.0.0/8" "unix" )'
    with pytest.raises(triosmtp.ConfigError, match="CIDR block"):
        triosmtp.parse_config('Proxy_Protocol = ( somewhere )\nESMTP_Listener { Listen ":25" { } }')


@pytest.mark.parametrize(
    ("listen", "options", "warned"),
    [
        (":25", "Proxy_Protocol = ( 0.0.0.0/0 )", "Proxy_Protocol: every client could claim any address"),
        (
            ":25",
            'Peer "::/0" { SMTP_Extensions = ( XREMOTEIP ) }',
            "SMTP_Extensions: XREMOTEIP is offered to every client",
        ),
        (
            ":25",
            "SMTP_Extensions = ( XCLIENT ) Peer 10.0.0.1 { Idle_Time = 3 }",
            "SMTP_Extensions: XCLIENT is offered to",
        ),
        (":25", "Proxy_Protocol = ( 10.0.0.0/8 ) Peer 10.0.0.1 { SMTP_Extensions = ( XCLIENT ) }", ""),
        ("127.0.0.1:25", "Proxy_Protocol = ( 0.0.0.0/0 ) SMTP_Extensions = ( XCLIENT )", ""),
    ],
)
def test_check_warns_if_every_client_could_claim_any_address(listen: str, options: str, warned: str) -> None:
    config = triosmtp.parse_config(f'ESMTP_Listener {{ Listen "{listen}" {{ {options} }} }}')
    messages = [problem.message for problem in config.warnings]
    assert len(messages) == bool(warned)
    assert not warned or messages[0].startswith(warned)
