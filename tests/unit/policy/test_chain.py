"""Several policies, one answer."""

import logging
from collections.abc import Mapping

import pytest
import trio

from triosmtp import DONE, Address, Policy, Reject, Session
from triosmtp.policy import CONTINUE, Chain
from triosmtp.policy.interface import UnknownCommandPolicy
from triosmtp.testing import RecordingPolicy

SENDER = Address("me", "example.org")


def session() -> Session:
    return Session(id="s", listener=":25", peer="192.0.2.1:1", peer_address=None, local="memory")


async def test_nobody_objects() -> None:
    first, second = RecordingPolicy(), RecordingPolicy()
    assert await Chain([first, second]).ask("mailfrom", session(), SENDER, {}) == CONTINUE
    assert first.phases == second.phases == ["mailfrom"]


async def test_done_skips_the_policies_that_come_later() -> None:
    first, second = RecordingPolicy({"mailfrom": DONE}), RecordingPolicy()
    decision = await Chain([first, second]).ask("mailfrom", session(), SENDER, {})
    assert decision.done
    assert decision.source == "python:RecordingPolicy"
    assert second.phases == []


async def test_a_refusal_names_its_policy_and_skips_the_rest() -> None:
    refusal = Reject(550, "5.7.1", "no")
    first, second = RecordingPolicy({"rcptto": refusal}), RecordingPolicy()
    decision = await Chain([first, second]).ask("rcptto", session(), SENDER, {})
    assert decision.refusal is refusal
    assert decision.source == "python:RecordingPolicy"
    assert second.phases == []


@pytest.mark.parametrize(
    ("phase", "arguments", "code"),
    [("connect", (), 421), ("mailfrom", (SENDER, {}), 451), ("data_spool", (None,), 451)],
)
async def test_another_exception_is_a_local_error(
    phase: str, arguments: tuple[object, ...], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    policy = RecordingPolicy({phase: ZeroDivisionError("oops")})  # type: ignore[dict-item]  # phases come as text here
    with caplog.at_level(logging.ERROR, "triosmtp.policy"):
        decision = await Chain([policy]).ask(phase, session(), *arguments)  # type: ignore[arg-type]  # likewise
    assert decision.refusal is not None
    assert (decision.refusal.code, decision.refusal.enhanced) == (code, "4.3.0")
    assert "oops" not in decision.refusal.text
    assert "oops" in decision.error
    assert "ZeroDivisionError" in caplog.text


async def test_a_refusal_out_of_a_nursery_is_a_refusal() -> None:
    class InNursery(Policy):
        async def validate_connect(self, session: Session) -> None:
            async with trio.open_nursery():
                raise Reject(554, "5.7.1", "go away")

    decision = await Chain([InNursery()]).ask("connect", session())
    assert decision.refusal is not None
    assert decision.refusal.code == 554


async def test_a_wrong_answer_is_an_error_of_the_policy() -> None:
    class Wrong(Policy):
        async def validate_connect(self, session: Session) -> bool:  # type: ignore[override]  # the mistake under test
            return True

    decision = await Chain([Wrong()]).ask("connect", session())
    assert "return None, DONE or DISCARD" in decision.error


async def test_cancellation_passes_through() -> None:
    class Slow(Policy):
        async def validate_connect(self, session: Session) -> None:
            await trio.sleep_forever()

    with trio.CancelScope() as scope:
        scope.cancel()
        await Chain([Slow()]).ask("connect", session())
    assert scope.cancelled_caught


def test_phases_that_nobody_overrides_are_not_asked() -> None:
    class OnlyMail(Policy):
        async def validate_mailfrom(
            self, session: Session, sender: Address, parameters: Mapping[str, str | None]
        ) -> None:
            return None

    chain = Chain([OnlyMail()])
    assert "mailfrom" in chain.phases
    assert "rcptto" not in chain.phases


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [(250, "2.0.0"), (600, "5.7.1"), (550, "4.7.1"), (550, "5.7"), (550, "5.7.x"), (True, "5.7.1")],
)
def test_a_reject_that_is_no_refusal_cannot_be_made(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match=r"refusal|enhanced status code"):
        Reject(code, enhanced, "text")


class Unknown(UnknownCommandPolicy):
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.lines: list[bytes] = []

    async def judge_unknown_command(self, session: Session, line: bytes) -> None:
        self.lines.append(line)
        if self.error is not None:
            raise self.error


async def test_the_first_reply_to_an_unknown_command_counts(caplog: pytest.LogCaptureFixture) -> None:
    assert not Chain([RecordingPolicy()]).asks_about_unknown
    silent, last = Unknown(None), Unknown(Reject(502, "5.5.9", "no"))
    chain = Chain([RecordingPolicy(), silent, last])
    assert chain.asks_about_unknown
    assert await chain.ask_about_unknown(session(), b"X y") is last.error
    assert silent.lines == last.lines == [b"X y"]
    assert await Chain([silent]).ask_about_unknown(session(), b"X") is None
    failed = await Chain([Unknown(RuntimeError("odd")), last]).ask_about_unknown(session(), b"X")
    assert failed is not None
    assert failed.code == 451
    assert "odd" in caplog.text
