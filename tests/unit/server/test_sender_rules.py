"""The right of sending domains to relay."""

from memory_dialogue import conf, hello

from triosmtp.testing import open_memory_server


async def test_a_sending_domain_gives_no_right_to_the_next_sender() -> None:
    async with open_memory_server(conf('Relay_For_Sending_Domains = ( "example.org" )')) as server:
        client = await hello(server)
        assert (await client.message("a@example.org", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 250
        assert (await client.message("a@example.edu", ["x@elsewhere.example"], b"x: y\r\n\r\n")).code == 550
    assert server.messages[0].variables["can_relay"] == "true"
