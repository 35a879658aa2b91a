"""Policies by their name in the configuration."""

from pathlib import Path

import pytest

from triosmtp.commands.check_command import check_config
from triosmtp.config import parse_config
from triosmtp.errors import Severity
from triosmtp.module_loader import ModuleLoader
from triosmtp.policy import load_policy

MODULE = """
from triosmtp import Policy

class Good(Policy):
    pass

class Nested:
    Inner = Good

instance = Good()
not_a_policy = 7

class Broken(Policy):
    def __init__(self):
        raise RuntimeError("cannot start")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "loadable_policy.py").write_text(MODULE)
    return tmp_path


@pytest.mark.parametrize("name", ["Good", "Nested.Inner", "instance"])
def test_a_class_or_an_instance(folder: Path, name: str) -> None:
    assert type(load_policy(ModuleLoader(folder), f"python:loadable_policy:{name}")).__name__ == "Good"


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        ("python:no_such_module:Name", "No module named 'no_such_module'"),
        ("python:loadable_policy:Nothing", "has no attribute 'Nothing'"),
        ("python:loadable_policy:not_a_policy", "is not a triosmtp.Policy: 7"),
        ("python:loadable_policy:Broken", "RuntimeError: cannot start"),
        ("python:loadable_policy", "is not of the form"),
        ("loadable_policy:Good", "is not of the form"),
    ],
)
def test_what_cannot_be_had_is_named(folder: Path, specification: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        load_policy(ModuleLoader(folder), specification)


def test_a_method_with_a_wrong_signature_is_told_with_its_place(folder: Path) -> None:
    (folder / "wrong_signature.py").write_text(
        "from triosmtp import Policy\n\n\nclass Wrong(Policy):\n"
        "    async def validate_rcptto(self, session, recipient):\n        pass\n"
    )
    config = parse_config(
        'Deliver_To = "discard:"\nPolicy = "python:wrong_signature:Wrong"\nESMTP_Listener { Listen ":25" { } }',
        "t.conf",
        folder=folder,
    )
    (told,) = (str(each) for each in check_config(config) if each.severity is Severity.ERROR)
    assert told.startswith(
        "t.conf:2:10: error: Policy: 'python:wrong_signature:Wrong': TypeError: Wrong.validate_rcptto takes"
    )
    assert f"({folder}/wrong_signature.py:5)" in told
