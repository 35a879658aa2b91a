"""The targets of a configuration: made once, run, and closed together."""

from pathlib import Path

import pytest
import trio

from triosmtp.config import parse_config
from triosmtp.delivery import Discard, EventSink, RecipientKey
from triosmtp.errors import ConfigError
from triosmtp.module_loader import ModuleLoader
from triosmtp.policy import Chain, Policy
from triosmtp.server.target_set import TargetSet

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


def targets(text: str, **options: object) -> TargetSet:
    config = parse_config(f"{text} {LISTENER}")
    return TargetSet(config, "mx.example.org", ModuleLoader(None), EventSink(), **options)  # type: ignore[arg-type]


def names(text: str, chain: Chain | None = None, **options: object) -> tuple[list[str], list[str]]:
    """Return the usual targets, and all that mail may go to."""
    config = parse_config(f"{text} {LISTENER}")
    made = targets(text, **options)
    routing = made.routing(config.resolve(config.listens[0], None), chain or Chain())
    return [each.name for each in routing.default], [each.name for each in routing.reachable]


CONFIGURATION = """
    Deliver_To = ( "discard:" "archive" )
    Delivery "archive" { Deliver_To = "maildir:/a" }  Delivery "quarantine" { Deliver_To = "maildir:/q" }
    Domain "a.example" { Deliver_To = "maildir:/domain" }
"""


@pytest.mark.parametrize("chain", [Chain(), Chain([Policy()])])
def test_a_delivery_that_nothing_names_is_made_if_a_policy_can_choose_it(chain: Chain) -> None:
    default, reachable = names(CONFIGURATION, chain)
    assert default == ["discard:", "archive"]
    assert reachable == ["discard:", "archive", "maildir:/domain", *(["quarantine"] if chain.policies else [])]


def test_a_given_delivery_replaces_deliver_to_and_policy_can_still_choose() -> None:
    assert names(CONFIGURATION, given=Discard()) == (["discard:"], ["discard:"])
    assert names(CONFIGURATION, Chain([Policy()]), given=Discard()) == (
        ["discard:"], ["discard:", "archive", "quarantine"],
    )  # fmt: skip


def test_each_target_is_made_once_and_a_problem_has_its_place() -> None:
    text = 'Deliver_To = d Domain a.example { Deliver_To = d } Delivery d { Deliver_To = "python:no_such_module:f" }'
    config = parse_config(f"{text} {LISTENER}", "c.conf")
    made = TargetSet(config, "mx.example.org", ModuleLoader(None), EventSink())
    with pytest.raises(ConfigError) as caught:
        made.routing(config.resolve(config.listens[0], None), Chain())
    [problem] = caught.value.problems
    assert (problem.position, "no_such_module" in problem.message) == (
        config.deliveries["d"].settings.origins["deliver_to"], True,
    )  # fmt: skip


async def test_tasks_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Running(Discard):
        closed = False

        async def run(self) -> None:
            await trio.sleep_forever()

        async def aclose(self) -> None:
            self.closed = True

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    given = Running()
    made = targets(CONFIGURATION, given=given)
    assert [name for name, _ in made.tasks()] == ["delivery discard:"]
    text = 'Deliver_To = ( "discard:" "maildir:/a" )'
    config = parse_config(f"{text} {LISTENER}")
    made = targets(text)
    routing = made.routing(config.resolve(config.listens[0], None), Chain())
    assert list(made.tasks()) == []
    memory = made.memory(routing, Chain())
    assert memory is not None
    assert await memory.remember([RecipientKey("a", "b", "c")], b"x" * 32, "p")
    assert await made.count_remembered() == 1
    assert targets(text, memory=made.remembered).memory(routing, Chain()) is memory
    await made.aclose()
    assert memory._connection is None
    assert not given.closed  # the program that made it closes it


@pytest.mark.parametrize(
    ("options", "is_same"),
    [
        ("\n\n", True),
        ("EHLO_Hostname = other.example.com", False),
        ("Delivery_Grace = 61", False),
        ('Deliver_To = "smtp://127.0.0.1:2526"', False),
    ],
)
async def test_the_health_of_the_same_target_goes_on(options: str, is_same: bool) -> None:
    text = 'Deliver_To = hop Delivery hop {{ Deliver_To = "smtp://127.0.0.1:2525" {} }}'
    before, after = (targets(text.format(each)) for each in ("", options))
    for each in (before, after):
        config = each._config
        each.routing(config.resolve(config.listens[0], None), Chain())
    before._targets["hop"].health.failed("no connection")
    after.adopt_health(before)
    [state] = after.states()
    assert state.reason == ("no connection" if is_same else "")
