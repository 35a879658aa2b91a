"""Several policies, one answer."""

import functools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping

import pytest
import trio

from triosmtp import DONE, Address, Policy, Reject, Session
from triosmtp.policy import CONTINUE, Chain
from triosmtp.policy.interface import PHASES
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


def test_a_method_for_an_unknown_phase_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="validate_mail_from: there is no such phase"):

        class Misspelt(Policy):
            async def validate_mail_from(self) -> None: ...


def test_a_method_for_an_unknown_phase_is_found_in_a_mixin() -> None:
    class Mixin:
        async def validate_mail_from(self) -> None: ...

    with pytest.raises(TypeError, match=r"Misspelt\.validate_mail_from: there is no such phase"):

        class Misspelt(Mixin, Policy): ...


def test_a_method_that_is_not_async_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="validate_connect must be an async method"):

        class Plain(Policy):
            def validate_connect(self, session: Session) -> None:  # type: ignore[override]  # the mistake under test
                return None


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [(250, "2.0.0"), (600, "5.7.1"), (550, "4.7.1"), (550, "5.7"), (550, "5.7.x"), (True, "5.7.1")],
)
def test_a_reject_that_is_no_refusal_cannot_be_made(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match=r"refusal|enhanced status code"):
        Reject(code, enhanced, "text")


def test_a_method_that_cannot_be_called_with_what_its_phase_gives_is_an_error_at_once() -> None:
    with pytest.raises(TypeError) as caught:

        class Short(Policy):
            async def validate_mailfrom(self, session: Session, sender: Address) -> None: ...  # type: ignore[override]

    assert str(caught.value).startswith(
        "test_a_method_that_cannot_be_called_with_what_its_phase_gives_is_an_error_at_once.<locals>.Short.validate_mailfrom"
        " takes (self, session: "
    )
    assert "and is called with (session, sender, parameters): too many positional arguments" in str(caught.value)
    assert re.search(r" \(.*test_chain\.py:\d+\)$", str(caught.value))


async def _nothing() -> None: ...
async def _session_alone(session: object) -> None: ...
async def _with_self(policy: object, session: object) -> None: ...
async def _longer(policy: object, session: object, more: object) -> None: ...
async def _keyword(policy: object, session: object, *, more: object) -> None: ...
async def _optional(policy: object, session: object, more: object = 1, *, other: object = 2) -> None: ...
async def _anything(*arguments: object, **more: object) -> None: ...


@pytest.mark.parametrize(
    "method", [_nothing, _session_alone, _longer, _keyword, staticmethod(_nothing), staticmethod(_with_self)]
)
def test_signatures_that_are_refused(method: object) -> None:
    with pytest.raises(TypeError, match=r"Derived\.validate_data takes .* is called with \(session\): "):
        type("Derived", (Policy,), {"validate_data": method})
    with pytest.raises(TypeError, match=r"Derived\.validate_data takes "):  # what a mixin brings, too
        type("Derived", (type("Mixin", (), {"validate_data": method}), Policy), {})


@pytest.mark.parametrize(
    "method", [_with_self, _optional, _anything, staticmethod(_session_alone), classmethod(_with_self)]
)
async def test_signatures_that_are_accepted(method: object) -> None:
    policy = type("Derived", (Policy,), {"validate_data": method})()
    assert await Chain([policy]).ask("data", session()) == CONTINUE


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_signature(phase: str) -> None:
    async def method(self: object, one: object, two: object, three: object, four: object) -> None: ...

    with pytest.raises(TypeError, match=f"validate_{phase} takes "):
        type("Derived", (Policy,), {f"validate_{phase}": method})


async def test_a_decorator_may_pass_on_other_arguments_than_it_takes() -> None:
    def with_database(method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(method)
        async def wrapper(self: object, session: Session) -> None:
            await method(self, session, "the database")

        return wrapper

    class Decorated(Policy):
        @with_database
        async def validate_data(self, session: Session, database: str) -> None:  # type: ignore[override]
            raise Reject(550, text=database)

    decision = await Chain([Decorated()]).ask("data", session())
    assert decision.refusal is not None
    assert decision.refusal.text == "the database"
