"""The requests that a policy client's handlers receive."""

from policy_stage import decider, mail, open_stage

from triosmtp.policy_client import (
    PolicyRequest,
)


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
