"""The bodies of messages in recordings."""

import json
from base64 import b64decode, b64encode

import trio.testing
from policy_stage import open_stage
from recorded_messages import body_of, recorded, sent

from triosmtp.policy_service.hub import ClientAccess

PART = 65536


async def test_a_recording_holds_it_only_if_it_was_asked_for() -> None:
    message = body_of(2 * PART + 10)
    async with open_stage("Policy_Fallback = continue") as stage:
        small = ClientAccess(listener="policy", peer="unix", local=True, admin_token="a" * 16, body_limit=PART)
        plain, full = await recorded(stage, bodies=False), await recorded(stage, bodies=True)
        cut = await recorded(stage, small, bodies=True)
        session = await stage.hello()
        assert (await sent(session, message)).startswith("250")
        await trio.testing.wait_all_tasks_blocked()
        assert not any("body" in note.params for note in plain)
        assert b64encode(message[:30]).decode() not in json.dumps([note.params for note in plain])
        assert [note.params["phase"] for note in full if "body" in note.params] == ["data_spool"]
        for notes, data, truncated in ((full, message, False), (cut, message[:PART], True)):
            (told,) = [note.params["body"] for note in notes if "body" in note.params]
            assert b"".join(map(b64decode, told["parts"])) == data
            assert {len(b64decode(part)) for part in told["parts"][:-1]} <= {PART}
            assert told["truncated"] is truncated


async def test_nothing_is_kept_for_a_recording_that_nobody_makes() -> None:
    async with open_stage("Policy_Fallback = continue") as stage:
        await recorded(stage, bodies=False)
        assert stage.hub.recorded_octets == stage.hub.interest.recorded_octets == 0
        await recorded(stage, bodies=True)
        assert stage.hub.recorded_octets == stage.hub.interest.recorded_octets == 1024 * 1024
