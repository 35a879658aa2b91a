"""The client library with a server in memory."""

import pytest
import trio
import trio.testing
from policy_stage import LOCAL, decider, open_stage

from triosmtp.policy_client import (
    PolicyClient,
    PolicyClientError,
    PolicyRequest,
)
from triosmtp.policy_service.hub import ClientAccess

TCP = ClientAccess(listener="policy", peer="192.0.2.9:1", token="t" * 16, admin_token="a" * 16)


async def test_a_client_that_is_refused_does_not_connect_again() -> None:
    async with open_stage() as stage:
        with pytest.raises(PolicyClientError, match="401: a token is needed"):
            await PolicyClient("ws://x/", name="a").run_on(stage._pair(TCP))
        with pytest.raises(PolicyClientError, match="name: expected"):
            await PolicyClient("ws://x/", name="a b").run_on(stage._pair(LOCAL))
        with pytest.raises(PolicyClientError, match="expected ws://"):
            await PolicyClient("http://x/", name="a").run()


async def test_a_client_gives_up_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage("Policy_Timeout = 1") as stage:
        client = decider()
        ended = trio.Event()

        @client.on("mailfrom")
        async def slow(request: PolicyRequest) -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        await stage.attach(client)
        session = await stage.hello()
        await session.command("MAIL FROM:<>")
        with trio.fail_after(30):  # of the mock clock
            await ended.wait()
