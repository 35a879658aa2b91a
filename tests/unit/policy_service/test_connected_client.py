"""One client: its questions, their late answers, and passwords."""

import pytest
import trio
import trio.testing
from attrs import evolve
from policy_stage import LOCAL, question

from triosmtp.policy_service.connected_client import ConnectedClient
from triosmtp.policy_service.hub import ClientAccess, HubLimits
from triosmtp.policy_service.json_rpc import ProtocolError
from triosmtp.policy_service.question import Question
from triosmtp.policy_service.registration import read_registration


async def test_a_decider_that_does_not_read_its_questions_is_dropped() -> None:
    dropped: list[bool] = []
    link = ConnectedClient(LOCAL, HubLimits(outstanding=3), admin=False, disconnect=lambda: dropped.append(True))
    link.registration = read_registration({"name": "a", "group": "g", "role": "decider", "phases": ["mailfrom"]})
    for number in range(4):
        asked = Question(
            id=str(number), session="s", phase="mailfrom", peer="p", listener="l", variables={}, message_variables={},
            arguments={},
        )  # fmt: skip
        pending = link.ask(asked, 5.0)
    assert dropped == [True]
    assert pending.done.is_set()


async def test_late_answers_are_known_up_to_the_limit_of_questions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = ConnectedClient(LOCAL, HubLimits(outstanding=500), admin=False, disconnect=lambda: None)
    link.registration = read_registration({"name": "a", "group": "g", "role": "decider", "phases": ["mailfrom"]})
    for number in range(500):
        link.ask(question(number), 5.0)
    for number in range(500):
        link.expire_question(f"s-{number}")
    for number in range(500):
        link.settle_question(f"s-{number}", {"decision": "continue"})
    assert link.late == 500
    with pytest.raises(ProtocolError, match="is open for this client"):
        link.settle_question("s-1", {})


@pytest.mark.parametrize(
    ("access", "mode", "shown"),
    [
        (LOCAL, "enforce", True),
        (ClientAccess(listener="p", peer="192.0.2.9:1", encrypted=True, token="t" * 16), "enforce", True),
        (ClientAccess(listener="p", peer="127.0.0.1:1", token="t" * 16), "enforce", False),
        (LOCAL, "shadow", False),
    ],
)
async def test_only_enforcing_deciders_on_a_private_connection_receive_the_password(
    access: ClientAccess, mode: str, shown: bool
) -> None:
    link = ConnectedClient(access, HubLimits(), admin=True, disconnect=lambda: None)
    params = {"name": "a", "group": "g", "role": "decider", "phases": ["auth"], "mode": mode}
    link.registration = read_registration(params)
    link.ask(evolve(question(phase="auth"), password="correct horse"), 5.0)
    assert (b"correct horse" in await link.outbox.take()) is shown
