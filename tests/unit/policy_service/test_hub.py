"""A hub without a server."""

import pytest
import trio
import trio.testing
from attrs import evolve
from policy_stage import LOCAL, question

from triosmtp.event import ServerEvent
from triosmtp.policy_service.connected_client import CloseReason, ConnectedClient
from triosmtp.policy_service.decider_group import NoAnswerError
from triosmtp.policy_service.hub import Hub
from triosmtp.policy_service.json_rpc import encode_json
from triosmtp.policy_service.question import Outcome
from triosmtp.policy_service.registration import read_registration


def open_decider(hub: Hub, *phases: str, name: str = "one", group: str = "g") -> ConnectedClient:
    """Join a decider to ``hub`` whose frames nobody carries."""
    link = hub.add_client(LOCAL, admin=False, disconnect=lambda: None)
    params = {"name": name, "group": group, "role": "decider", "phases": list(phases), "notifications": []}
    link.registration = read_registration(params)
    hub.group(group).add(link)
    return link


async def test_a_dropped_decider_is_not_asked_and_the_fallback_applies() -> None:
    hub = Hub()
    link = open_decider(hub, "mailfrom")
    link.drop(CloseReason("too slow"))  # its tasks have not ended yet: nobody has called remove_client
    told: list[ServerEvent] = []
    hub.on_event = told.append
    with trio.fail_after(1):
        verdict = await hub.decide("g", question(), timeout=5, fallback="tempfail")
    assert (verdict.code, verdict.failure) == (451, "no decider")
    assert len(told) == 1
    hub.remove_client(link)


async def test_a_group_wants_the_phases_of_its_connected_deciders() -> None:
    hub = Hub()
    assert [hub.wants("g", phase) for phase in ("mailfrom", "rcptto")] == [True, False]
    one, two = open_decider(hub, "rcptto"), open_decider(hub, "data", name="two")
    hub.group("g").is_configured = True
    assert [hub.wants("g", phase) for phase in ("mailfrom", "rcptto", "data")] == [False, True, True]
    hub.remove_client(one)
    assert [hub.wants("g", phase) for phase in ("rcptto", "data")] == [False, True]
    hub.remove_client(two)
    assert hub.wants("g", "data")
    with pytest.raises(NoAnswerError, match="no decider"):
        await hub.group("g").ask(question(phase="data"), 1)


async def test_notifications_and_shadow_questions_of_auth_contain_no_password() -> None:
    hub = Hub()
    links = []
    for params in (
        {"name": "o", "notifications": ["session.*", "session.phase"]},
        {"name": "s", "group": "g", "role": "decider", "phases": ["auth"], "mode": "shadow"},
    ):
        links.append(hub.add_client(LOCAL, admin=True, disconnect=lambda: None))
        await hub.receive_message(
            links[-1], encode_json({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        )
        await links[-1].outbox.take()
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        hub.report_outcome(evolve(question(phase="auth"), password="correct horse"), Outcome(decision="accepted"))
        told = [await link.outbox.take() for link in links]
        nursery.cancel_scope.cancel()
    assert b"session.phase" in told[0]
    assert b"validate_auth" in told[1]
    assert not any(b"correct horse" in each for each in told)


async def test_the_number_of_deciders_in_shadow_is_limited() -> None:
    hub = Hub()
    for number in range(257):
        link = hub.add_client(LOCAL, admin=False, disconnect=lambda: None)
        params = f'{{"name":"n{number}","group":"g","role":"decider","phases":["data"],"mode":"shadow"}}'
        await hub.receive_message(link, f'{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}')
        answer = await link.outbox.take()
        assert (b"deciders in shadow already" in answer) is (number == 256)
    assert link.registration is None
    hub.remove_client(link)
