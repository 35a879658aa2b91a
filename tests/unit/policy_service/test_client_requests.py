"""The requests of policy clients."""

from typing import Any

import pytest
import trio
import trio.testing
from policy_stage import decider, open_stage

from triosmtp.event import PolicyFallback
from triosmtp.policy_client import (
    Decision,
    PolicyClient,
    PolicyRequest,
    PolicyRequestError,
)
from triosmtp.policy_service.hub import ClientAccess

TLS = ClientAccess(listener="p", peer="x", encrypted=True)


async def test_control_requests() -> None:
    async with open_stage('Context = [ site = "a" ]') as stage:
        admin = PolicyClient("unix:/memory", name="admin", token="a" * 16)
        with pytest.raises(trio.BrokenResourceError):
            await admin.request("session.list")
        await stage.attach(admin)
        session = await stage.hello()
        (listed,) = (await admin.request("session.list"))["sessions"]
        assert listed["peer"] == "192.0.2.1:1024"
        assert listed["state"] == "ready"
        changes = {"connection": {"score": "9", "site": None}, "message": {}}
        await admin.request("session.set_variables", session=listed["id"], **changes)
        found = await admin.request("session.get", session=listed["id"])
        assert found["variables"]["score"] == "9"
        assert "site" not in found["variables"]
        with pytest.raises(PolicyRequestError, match="written by the TLS engine"):
            await admin.request("session.set_variables", session=listed["id"], connection={"tls": "on"})
        for method in ("session.get", "session.close", "session.set_variables"):
            with pytest.raises(PolicyRequestError, match="no such session"):
                await admin.request(method, session="unknown")
        with pytest.raises(PolicyRequestError, match="expected a string"):
            await admin.request("session.get", session=5)
        assert await admin.request("certificates.list") == {"certificates": []}
        assert (await admin.request("certificates.reload"))["problems"] == []
        await admin.request("session.close", session=listed["id"])
        assert str(await session.read()) == "421 4.3.2 Closing the connection"


async def test_a_replay_has_no_effect() -> None:
    async with open_stage() as stage:
        client = decider()

        @client.on("mailfrom")
        async def decide(request: PolicyRequest) -> Any:
            return Decision("reject", text="no") if request.variables.get("tls") != "on" else None

        await stage.attach(client)
        admin = PolicyClient("unix:/memory", name="admin", token="a" * 16)
        await stage.attach(admin)
        asked = [{"phase": "mailfrom", "variables": {"tls": "on"}}, {"phase": "mailfrom"}]
        found = await admin.request("policy.replay", group="fraud", requests=asked)
        refusal = {"decision": "reject", "code": 550, "enhanced": "5.7.1", "text": "no"}
        assert found == {"results": [{"decision": "continue"}, refusal]}
        found = await admin.request("policy.replay", group="empty", requests=[{"phase": "mailfrom"}])
        assert found == {"results": [{"error": "no decider"}]}
        with pytest.raises(PolicyRequestError, match=r"requests\[0\].phase"):
            await admin.request("policy.replay", group="fraud", requests=[{"phase": "mail"}])
        assert not any(isinstance(event, PolicyFallback) for event in stage.server.events)


async def test_a_request_that_fails_does_not_disconnect_the_client(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def sessions(self) -> Any:
            raise OSError("disk on fire")

    async with open_stage() as stage:
        stage.hub.attach(Broken())  # type: ignore[arg-type]  # as much of a host as is asked for
        raw = await stage.raw(token="a" * 16)
        await raw.initialize()
        await raw.send(id=2, method="session.list")
        answer = await raw.read()
        assert answer["error"]["code"] == -32000
        assert "disk" not in answer["error"]["message"]
        assert "disk on fire" in caplog.text
        caplog.clear()
        await raw.send(id=3, method="policy.groups")
        assert "result" in await raw.read()
