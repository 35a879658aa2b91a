"""A policy that records its calls and answers as a test sets it."""

from triosmtp import DONE, Reject
from triosmtp.testing import RecordingPolicy, open_memory_server

CONF = 'Relay_Domains = ( "example.com" ) Context = [ site = "a" ] ESMTP_Listener { Listen ":25" { } }'


async def test_calls_are_recorded_in_order_with_their_variables_and_answered_as_set() -> None:
    policy = RecordingPolicy({"mailfrom": Reject(550, "5.7.1", "not you"), "ehlo": DONE})
    async with open_memory_server(CONF, policy=policy) as server:
        client = server.connect()
        await client.read()
        assert (await client.command("EHLO c.example.org")).code == 250
        assert (await client.command("MAIL FROM:<a@example.org>")).text == "5.7.1 not you"
        policy.answers["mailfrom"] = ValueError("broken")
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 451
        del policy.answers["mailfrom"]
        assert (await client.command("MAIL FROM:<a@example.org>")).code == 250
    assert policy.phases == ["connect", "ehlo", "mailfrom", "mailfrom", "mailfrom"]
    phase, arguments, variables = policy.calls[1]
    assert (phase, arguments) == ("ehlo", ("c.example.org",))
    assert variables["site"] == "a"
