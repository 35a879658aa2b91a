"""Modules that a configuration names: found in its folder, imported again by its successor, errors in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triosmtp.module_loader import ModuleLoader, as_value_error, is_failure


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), dict(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


def test_a_module_beside_the_configuration_is_imported_again_by_the_next_loader(folder: Path) -> None:
    file = folder / "loader_sample.py"
    file.write_text("class Rules:\n    name = 'old'\n")
    first = ModuleLoader(folder)
    old = first.find("python:loader_sample:Rules.name")
    file.write_text("class Rules:\n    name = 'new'\n")
    assert first.find("python:loader_sample:Rules.name") == old == "old"
    second = ModuleLoader(folder, first)
    assert second.find("python:loader_sample:Rules.name") == "new"
    second.discard()
    assert sys.modules["loader_sample"] is first.modules["loader_sample"]


def test_an_installed_module_takes_precedence_over_a_file_of_the_folder(folder: Path) -> None:
    sys.modules.pop("colorsys", None)
    (folder / "colorsys.py").write_text("rgb_to_hsv = None\n")
    assert ModuleLoader(folder).find("python:colorsys:rgb_to_hsv") is not None


@pytest.mark.parametrize(
    ("specification", "text"),
    [
        ("loader_sample:x", "is not of the form python:package.module:Name"),
        ("python:loader_sample", "is not of the form python:package.module:Name"),
        ("python:loader_missing:x", "No module named 'loader_missing'"),
        ("python:loader_broken:x", "ZeroDivisionError"),
        ("python:loader_exits:x", "SystemExit"),
        ("python:json:nothing", "AttributeError"),
    ],
)
def test_a_failure_is_a_value_error_of_one_line_that_names_it(folder: Path, specification: str, text: str) -> None:
    (folder / "loader_broken.py").write_text("1 / 0\n")
    (folder / "loader_exits.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ValueError, match=text) as caught:
        ModuleLoader(folder).find(specification)
    assert repr(specification) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupt_is_not_turned_into_a_value_error() -> None:
    with pytest.raises(KeyboardInterrupt), as_value_error("python:a:b"):
        raise KeyboardInterrupt


def test_a_cancellation_in_a_group_is_no_failure() -> None:
    assert is_failure(RuntimeError())
    assert is_failure(SystemExit())
    assert not is_failure(KeyboardInterrupt())
    assert is_failure(ExceptionGroup("", [RuntimeError(), ValueError()]))
    assert not is_failure(BaseExceptionGroup("", [RuntimeError(), KeyboardInterrupt()]))
