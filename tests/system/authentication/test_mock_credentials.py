"""Cancelled exchanges do not show whether a user exists, and they count."""

import base64
from pathlib import Path

import pytest
import trio
import trio.testing
from key_derivation_work import Work

from triosmtp.event import AuthAttempted
from triosmtp.testing import MemoryServer, ScriptedClient, open_memory_server

CONF = """
Banner_Hostname = "mx.example.com"
Auth_Failure_Delay = 0.001
AuthPlainParameters = [ uri = "file://{path}" ]
Allow_Plaintext_Auth = true
{more}
ESMTP_Listener {{ Listen ":25" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "AUTH SCRAM-SHA-256 LOGIN" ) }} }}
"""


async def hello(server: MemoryServer) -> ScriptedClient:
    client = server.connect()
    await client.read()
    await client.command("EHLO x")
    return client


async def test_an_exchange_cancelled_after_its_look_up_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, work = tmp_path / "passwords", Work(monkeypatch)
    path.write_text("joe:x\n")
    async with open_memory_server(CONF.format(path=path, more="Max_Auth_Failures = 4")) as server:
        client = await hello(server)
        for user in ("joe", "nobody"):
            begin = f"AUTH SCRAM-SHA-256 {base64.b64encode(f'n,,n={user},r=x'.encode()).decode()}"
            assert (await client.command(begin)).code == 334
            assert str(await client.command("*")) == "501 5.7.0 Authentication cancelled"
            assert (await client.command(begin)).code == 334
            if user == "joe":
                assert (await client.command("no base64!")).code == 501
        assert str(await client.command("*")) == "421 4.7.0 Too many failed authentications"
        assert await client.read_eof() == b""
    attempts = [event for event in server.events if isinstance(event, AuthAttempted)]
    assert [(attempt.user, attempt.reason) for attempt in attempts] == [
        ("joe", "cancelled"), ("joe", "broken off"), ("nobody", "cancelled"), ("nobody", "cancelled"),
    ]  # fmt: skip
    assert not work.done


async def test_cancelled_exchanges_are_delayed(autojump_clock: trio.testing.MockClock) -> None:
    conf = 'Always_Deny = true Auth_Failure_Delay = 2 Max_Auth_Failures = 0 SMTP_Extensions = ( "AUTH SCRAM-SHA-256" )'
    async with open_memory_server(f'{conf} ESMTP_Listener {{ Listen ":25" {{ }} }}') as server:
        client = await hello(server)
        for answer, code, waited in (("*", 501, 2), ("no base64!", 501, 0), ("*", 501, 4 + 8), ("", 501, 16)):
            began = trio.current_time()
            first = base64.b64encode(b"n,,n=joe,r=x").decode()
            assert (await client.command(f"AUTH SCRAM-SHA-256 {first}")).code == 334
            assert (await client.command(answer)).code == code
            assert round(trio.current_time() - began) == waited


async def test_an_exchange_cancelled_before_its_look_up_is_a_junk_command(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("joe:x\n")
    async with open_memory_server(CONF.format(path=path, more="Max_Junk_Commands = 5")) as server:
        client = await hello(server)
        for _ in range(4):  # beside the EHLO
            assert (await client.command("AUTH LOGIN")).code == 334
            assert (await client.command("*")).code == 501
        assert (await client.command("AUTH LOGIN")).code == 421
