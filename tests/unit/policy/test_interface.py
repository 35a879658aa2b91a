"""The base class of policies: methods that no phase can call are errors at once."""

import functools
import re
from collections.abc import Awaitable, Callable

import pytest

from triosmtp import Address, Policy, Reject, Session
from triosmtp.policy import CONTINUE, Chain
from triosmtp.policy.interface import PHASES


def session() -> Session:
    return Session(id="s", listener=":25", peer="192.0.2.1:1", peer_address=None, local="memory")


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


def test_a_method_that_cannot_be_called_with_what_its_phase_gives_is_an_error_at_once() -> None:
    with pytest.raises(TypeError) as caught:

        class Short(Policy):
            async def validate_mailfrom(self, session: Session, sender: Address) -> None: ...  # type: ignore[override]

    assert str(caught.value).startswith(
        "test_a_method_that_cannot_be_called_with_what_its_phase_gives_is_an_error_at_once.<locals>.Short.validate_mailfrom"
        " takes (self, session: "
    )
    assert "and is called with (session, sender, parameters): too many positional arguments" in str(caught.value)
    assert re.search(r" \(.*test_interface\.py:\d+\)$", str(caught.value))


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
