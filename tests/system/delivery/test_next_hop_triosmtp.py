"""Pass-through to another triosmtp: AUTH by SCRAM over verified TLS, and many clients that stop after RCPT."""

import os
from pathlib import Path

import pytest
import trio
from listen_server import connect, serving

from triosmtp import Message
from triosmtp.testing import Authority, ScriptedClient

JUDGE = os.environ.get("TRIOSMTP_JUDGE") == "1"
CLIENTS = 2_000 if JUDGE else 40
SENDER = "joe@example.org"
BODY = b"From: joe@example.org\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nSubject: test\r\n\r\ntext\r\n"
PASSWORD = "s3cret-of-the-second-hop"


def front(port: int, delivery: str = "", options: str = "") -> str:
    return f"""
Relay_Domains = ( "example.com" )
Connections_Per_Peer = 0
Deliver_To = "hop"
Delivery "hop" {{ Deliver_To = "smtp://127.0.0.1:{port}" {delivery} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ {options} }} }}
"""


@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 250), ("wrong-" + PASSWORD, 451)])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
async def test_auth_over_verified_tls(
    tmp_path: Path, mechanism: str, password: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    authority = Authority.create("Hop Authority")
    certificate, key = authority.issue("hop.example.org", dns=["hop.example.org"]).write(tmp_path, "hop")
    (tmp_path / "authority.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "users").write_text(f"me:{PASSWORD}\n")
    (tmp_path / "password").write_text(f"{password}\n")
    for name in ("users", "password"):
        (tmp_path / name).chmod(0o600)
    received: list[tuple[str, str]] = []

    async def deliver(message: Message) -> None:
        received.append((message.variables["auth_user"], message.variables["auth_name"]))

    back = f"""
Auth_Failure_Delay = 0.001
Relay_Domains = ( "example.com" )
ESMTP_Listener {{ Listen "127.0.0.1:0" {{
  TLS_Certificate = "{certificate}" TLS_Key = "{key}"
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" "AUTH {mechanism}" )
  AuthPlainParameters = [ uri = "file://{tmp_path}/users" stored_cleartext = true ]
}} }}
"""
    tls = f'TLS = "required" TLS_Name = "hop.example.org" TLS_CA = "{tmp_path}/authority.pem"'
    auth = f'Auth_User = "me" Auth_Password_File = "{tmp_path}/password"'
    async with serving(back, deliver=deliver) as hop:
        ((_, port),) = hop.addresses.values()
        async with serving(front(port, f"{tls} {auth}"), deliver=None) as server:
            client = await connect(server)
            await client.read()
            await client.command("EHLO client.example.org")
            assert (await client.message(SENDER, ["a@example.com"], BODY)).code == code
    assert received == ([("me", mechanism)] if code == 250 else [])
    output = capfd.readouterr()
    assert "s3cret" not in output.out + output.err


async def test_clients_that_stop_after_rcpt_do_not_starve_others() -> None:
    """Over real sockets: all stop, half of them from one address; then others deliver."""
    messages: list[str] = []

    async def deliver(message: Message) -> None:
        messages.append(str(message.envelope.recipients[0]))

    back = 'Relay_Domains = ( "example.com" ) Connections_Per_Peer = 0 ESMTP_Listener { Listen "127.0.0.1:0" { } }'
    async with serving(back, deliver=deliver) as hop:
        ((_, port),) = hop.addresses.values()
        async with serving(front(port, "Max_Outbound_Connections = 4"), deliver=None) as server:
            ((_, front_port),) = server.addresses.values()
            codes: list[int] = []
            async with trio.open_nursery() as nursery:
                limit = trio.CapacityLimiter(50)
                for number in range(CLIENTS):
                    nursery.start_soon(_stop_after_rcpt, front_port, number, codes, limit)
                while len(codes) < CLIENTS:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert codes.count(250) == CLIENTS
                for number in range(5):
                    client = await _client(front_port, f"127.0.9.{number + 1}")
                    assert (await client.message(SENDER, [f"other{number}@example.com"], BODY)).code == 250
                    await client.aclose()
                nursery.cancel_scope.cancel()
    assert messages == [f"other{number}@example.com" for number in range(5)]


async def _client(port: int, address: str) -> ScriptedClient:
    client = ScriptedClient(await trio.open_tcp_stream("127.0.0.1", port, local_address=address))
    await client.read()
    await client.command("EHLO client.example.org")
    return client


async def _stop_after_rcpt(port: int, number: int, codes: list[int], limit: trio.CapacityLimiter) -> None:
    address = "127.0.0.1" if number % 2 else f"127.1.{number >> 8}.{number & 255 or 1}"
    async with limit:
        client = await _client(port, address)
        await client.command(f"MAIL FROM:<{SENDER}>")
        codes.append((await client.command(f"RCPT TO:<stopped{number}@example.com>")).code)
    try:
        await trio.sleep_forever()
    finally:
        await client.aclose()
