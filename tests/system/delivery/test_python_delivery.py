"""Deliver_To = "python:module:function": what is taken, what is refused, and what the client hears."""

from pathlib import Path

import pytest

from triosmtp import FunctionDelivery, Message
from triosmtp.commands.check_command import check_config
from triosmtp.config import parse_config
from triosmtp.daemon.config_warnings import config_warnings
from triosmtp.delivery import load_delivery
from triosmtp.errors import ConfigError, Severity
from triosmtp.module_loader import ModuleLoader
from triosmtp.server.startup import open_service
from triosmtp.testing import open_memory_server

MODULE = """
import functools
from triosmtp import Delivery

async def take(message):
    pass

async def with_default(message, folder="/"):
    pass

async def two(message, other):
    pass

async def keyword(*, message):
    pass

async def none():
    pass

def plain(message):
    pass

class Inbox:
    async def take(self, message):
        pass

class Called:
    async def __call__(self, message):
        pass

class Store(Delivery):
    honours = frozenset({"DSN"})
    async def deliver(self, message):
        pass

class Broken(Delivery):
    def __init__(self):
        raise RuntimeError("cannot start")
    async def deliver(self, message):
        pass

inbox = Inbox()
called = Called()
partly = functools.partial(two, other=1)
number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_delivery.py").write_text(MODULE)
    return tmp_path


@pytest.mark.parametrize("name", ["take", "with_default", "inbox.take", "called", "partly", "Store"])
def test_specifications_of_python_deliveries_that_are_accepted(folder: Path, name: str) -> None:
    delivery = load_delivery(ModuleLoader(folder), f"python:own_delivery:{name}")
    if name == "Store":
        assert delivery.honours == {"DSN"}
    else:
        assert isinstance(delivery, FunctionDelivery)
        assert str(delivery) == f"python:own_delivery:{name}"


REFUSED = {
    "two": r"takes \(message, other\), and is called with one argument, the message: missing a required argument",
    "keyword": r"takes \(\*, message\), and is called with one argument",
    "none": r"takes \(\), and is called with one argument",
    "Inbox.take": r"takes \(self, message\), and is called with one argument",
    "plain": r"is not an async function of one argument, or a class derived from triosmtp.Delivery: <function plain",
    "Inbox": "is not an async function",
    "inbox": "is not an async function",
    "Called": "is not an async function",
    "number": "is not an async function",
    "Broken": "RuntimeError: cannot start",
    "nothing": "has no attribute 'nothing'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_reports_an_invalid_delivery_with_its_position(folder: Path, name: str) -> None:
    text = (
        f'Relay_Domains = ( "*" )\nDeliver_To = "python:own_delivery:{name}"\nESMTP_Listener {{ Listen ":25" {{ }} }}'
    )
    (problem,) = [
        each for each in check_config(parse_config(text, "t.conf", folder=folder)) if each.severity is Severity.ERROR
    ]
    assert str(problem).startswith(f"t.conf:2:14: error: Deliver_To: 'python:own_delivery:{name}'")
    with pytest.raises(ValueError, match=REFUSED[name]):
        load_delivery(ModuleLoader(folder), f"python:own_delivery:{name}")


async def test_the_library_says_at_the_start_that_a_function_takes_no_message() -> None:
    async def two(message: Message, other: int) -> None:
        return None

    with pytest.raises(TypeError, match=r"function .*two takes .* and is called with one argument"):
        async with open_memory_server('ESMTP_Listener { Listen ":25" { } }', deliver=two):  # type: ignore[arg-type]
            pass


def test_check_says_which_extensions_it_does_not_honour(folder: Path) -> None:
    extensions = 'SMTP_Extensions = ( "DSN" "DELIVERBY" )'
    for name, expected in {"take": {"DSN", "DELIVERBY"}, "Store": {"DELIVERBY"}}.items():
        text = f'{extensions} Deliver_To = "python:own_delivery:{name}" ESMTP_Listener {{ Listen ":25" {{ }} }}'
        config = parse_config(text, "t.conf", folder=folder)
        told = [each.message for each in check_config(config) if "is not offered" in each.message]
        assert {each.split(": ")[1].split(" ")[0] for each in told} == expected
        assert all(f"python:own_delivery:{name} does not support it" in each for each in told)


def test_nothing_is_imported_before_it_is_served(folder: Path) -> None:
    (folder / "fails_at_import.py").write_text("raise SystemExit(3)")
    text = 'Deliver_To = "python:fails_at_import:take" ESMTP_Listener { Listen ":25" { } }'
    config = parse_config(text, "t.conf", folder=folder)
    assert not [each for each in config_warnings(config) if each.severity is Severity.ERROR]  # else a reload would fail
    (error,) = [each for each in check_config(config) if each.severity is Severity.ERROR]
    assert "'python:fails_at_import:take': SystemExit: 3" in error.message


async def test_a_configuration_that_cannot_have_its_delivery_is_not_served(folder: Path) -> None:
    text = 'Deliver_To = "python:own_delivery:plain" ESMTP_Listener { Listen ":25" { } }'
    with pytest.raises(ConfigError, match=r"t\.conf:1:14: error: Deliver_To"):
        await open_service(parse_config(text, "t.conf", folder=folder))
