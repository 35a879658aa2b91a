"""The requests that a policy client's handlers receive."""

from typing import Any

from policy_stage import open_stage

from triosmtp.policy_client import (
    PolicyClient,
    PolicyRequest,
)
from triosmtp.testing import ScriptedClient

BODY = b"Subject: x\r\n\r\nhello\r\n"


def decider(name: str = "bar", **more: Any) -> PolicyClient:
    return PolicyClient("unix:/memory", name=name, group="fraud", **more)


async def mail(client: ScriptedClient, sender: str = "a@example.org") -> str:
    return str(await client.message(sender, ["you@example.com"], BODY))


async def test_the_client_restores_the_contexts_from_changes() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        client = decider(changed_only=True)
        seen: list[dict[str, str]] = []

        @client.on("ehlo", "mailfrom", "rcptto")
        async def decide(request: PolicyRequest) -> None:
            seen.append(dict(request.variables))
            request.set(**{request.phase: "1"})

        await stage.attach(client)
        await mail(await stage.hello())
        assert seen[2]["site"] == "a"
        assert seen[2]["ehlo"] == seen[2]["mailfrom"] == "1"
