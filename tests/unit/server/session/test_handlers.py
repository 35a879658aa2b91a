"""The handlers of commands: limits of recipients and receptions, and static banners."""

import pytest
from memory_dialogue import conf, hello

from triosmtp.event import Disconnected
from triosmtp.testing import open_memory_server


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ("Max_Recipients_Per_Message = 2", [250, 250, 452]),
        ("Max_Recipients_Per_Connection = 2", [250, 250, 421]),
    ],
)
async def test_recipient_limits(options: str, codes: list[int]) -> None:
    async with open_memory_server(conf(options)) as server:
        client = await hello(server)
        await client.command("MAIL FROM:<a@example.org>")
        assert [(await client.command(f"RCPT TO:<u{i}@example.com>")).code for i in range(3)] == codes


async def test_a_transaction_without_a_body_is_no_reception() -> None:
    async with open_memory_server(conf("Max_Receptions_Per_Connection = 1")) as server:
        client = await hello(server)
        for _ in range(3):
            await client.command("MAIL FROM:<a@example.org>")
            assert (await client.command("RCPT TO:<x@elsewhere.example>")).code == 550
            await client.command("RSET")
        assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
    assert server.messages[0].variables["connection_message_count"] == "1"
    assert [e.messages for e in server.events if isinstance(e, Disconnected)] == [1]


async def test_reception_limit() -> None:
    async with open_memory_server(conf("Max_Receptions_Per_Connection = 2")) as server:
        client = await hello(server)
        for _ in range(2):
            assert (await client.message("a@example.org", ["b@example.com"], b"x: y\r\n\r\n")).code == 250
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 421
        assert await client.read_eof() == b""


async def test_a_message_over_the_size_is_552_after_its_end_and_no_line_of_it_is_a_command() -> None:
    async with open_memory_server(conf("Max_Message_Size = 1000")) as server:
        client = await hello(server)
        answer = await client.message("a@example.org", ["b@example.com"], b"RSET\r\nQUIT\r\n" * 200)
        assert str(answer)[:9] == "552 5.3.4"
        assert (await client.command("NOOP")).code == 250
    assert server.messages == []


async def test_enhanced_codes_are_off_where_they_are_not_listed() -> None:
    async with open_memory_server(conf("SMTP_Extensions = ( )")) as server:
        client = await hello(server)
        assert str(await client.command("NOOP")) == "250 Ok"


async def test_a_static_banner_holds_its_own_code() -> None:
    async with open_memory_server(conf('Static_Banner = "220 welcome to nowhere"')) as server:
        assert str(await server.connect().read()) == "220 welcome to nowhere"


async def test_the_longest_static_banner_is_sent_whole() -> None:
    banner = "220 " + "x" * 480
    async with open_memory_server(conf(f'Static_Banner = "{banner}"')) as server:
        assert str(await server.connect().read()) == banner
