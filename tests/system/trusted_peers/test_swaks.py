"""swaks, which knows XCLIENT and the PROXY protocol, talks to a real server on loopback."""

import os
import shutil
from functools import partial

import pytest
import trio

import triosmtp
from triosmtp.message import Message

CONF = """
Banner_Hostname = "mx.example.com"
Relay_Domains = ( "example.com" )
Max_Command_Errors = 0
ESMTP_Listener {
  Listen "127.0.0.1:0" { Peer "127.0.0.0/8" { SMTP_Extensions = ( XCLIENT ) } }
  Listen "127.0.0.2:0" { Proxy_Protocol = ( "127.0.0.0/8" ) }
  Listen "127.0.0.3:0" { }
}
"""
PROXY = ("--proxy-source", "198.51.100.7", "--proxy-source-port", "999", "--proxy-dest")
PROXIED = (*PROXY, "198.51.100.25", "--proxy-dest-port", "25")


def swaks() -> str:
    path = shutil.which("swaks")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("swaks is not installed")
    return path


@pytest.mark.parametrize(
    ("host", "arguments", "trace"),
    [
        (1, ("--xclient-name", "c.example.net", "--xclient-addr", "198.51.100.7"), b"(c.example.net [198.51.100.7])"),
        (1, ("--xclient-addr", "IPV6:2001:db8::9", "--xclient-login", "jo"), b"([IPv6:2001:db8::9])"),
        (2, ("--proxy-version", "1", "--proxy-family", "TCP4", *PROXIED), b"([198.51.100.7])"),
        (
            2,
            (
                "--proxy-version",
                "2",
                "--proxy-family",
                "AF_INET",
                "--proxy-command",
                "PROXY",
                "--proxy-protocol",
                "STREAM",
                *PROXIED,
            ),
            b"([198.51.100.7])",
        ),
    ],
)
async def test_swaks_speaks_for_another_one(host: int, arguments: tuple[str, ...], trace: bytes) -> None:
    program, messages = swaks(), list[Message]()

    async def keep(message: Message) -> None:
        messages.append(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, triosmtp.parse_config(CONF), deliver=keep))
        port = server.addresses[f"127.0.0.{host}:0"][1]
        command = [program, "--server", f"127.0.0.{host}", "--port", str(port), "--to", "you@example.com"]
        with trio.fail_after(30):
            done = await trio.run_process([*command, *arguments], capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stdout
        nursery.cancel_scope.cancel()
    assert trace in messages[0].trace
    if "--xclient-login" in arguments:
        assert messages[0].variables["auth_user"] == "jo"


@pytest.mark.parametrize(
    "arguments", [("--xclient-addr", "198.51.100.7"), ("--proxy-version", "1", "--proxy-family", "TCP4", *PROXIED)]
)
async def test_swaks_gets_nowhere_where_it_is_not_trusted(arguments: tuple[str, ...]) -> None:
    program, messages = swaks(), list[Message]()

    async def keep(message: Message) -> None:
        messages.append(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(triosmtp.serve, triosmtp.parse_config(CONF), deliver=keep))
        port = server.addresses["127.0.0.3:0"][1]
        command = [program, "--server", "127.0.0.3", "--port", str(port), "--to", "you@example.com", *arguments]
        with trio.fail_after(30):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        nursery.cancel_scope.cancel()
    if "--xclient-addr" in arguments:
        assert b"Host did not advertise XCLIENT" in done.stderr
    else:
        assert b"500 5.5.1 Command not recognized" in done.stdout
    assert all(b"[127.0.0.1]" in message.trace for message in messages)
