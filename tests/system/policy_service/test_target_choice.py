"""A decider of the policy service chooses the target of a message."""

from pathlib import Path

import pytest
from policy_stage import open_stage

from triosmtp.event import MessageRefused, Refused
from triosmtp.policy_client import PolicyClient, PolicyRequest

BODY = b"Subject: x\r\n\r\nbody\r\n"


@pytest.mark.parametrize("phase", ["mailfrom", "rcptto", "data_spool"])
@pytest.mark.parametrize(("name", "code"), [("quarantine", 250), ("elsewhere", 451)])
async def test_the_variable_of_a_decider_chooses_the_delivery(
    phase: str, name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    async with open_stage(f'Delivery "quarantine" {{ Deliver_To = "maildir:{tmp_path}/q" }}') as stage:
        client = PolicyClient("ws://unused/", name="bar", group="fraud")

        @client.on(phase)
        async def decide(request: PolicyRequest) -> None:
            request.set_message(deliver_to=name)

        await stage.attach(client)
        session = await stage.hello()
        answer = await session.message("a@example.org", ["u@example.com"], BODY)
        assert answer.code == code
        assert not stage.server.messages, "the usual target has nothing"
        if code == 250:
            assert len(list((tmp_path / "q/new").iterdir())) == 1
        else:
            [refused] = [event for event in stage.server.events if isinstance(event, Refused | MessageRefused)]
            assert refused.reason == "deliver_to = 'elsewhere': there is no such Delivery"
