"""`triosmtp` brings its public names when they are used, and no module before."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import triosmtp
import triosmtp.tls

LIST_MODULES = "import sys; print(*(name for name in sys.modules if name.split('.')[0] in {'triosmtp', 'trio'}))"


def run(code: str) -> list[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()


def test_the_package_alone_imports_nothing() -> None:
    assert run(f"import triosmtp; {LIST_MODULES}") == ["triosmtp.lazy_import", "triosmtp"]


def test_a_name_imports_what_defines_it() -> None:
    found = run(f"from triosmtp import Reject; {LIST_MODULES}")
    assert found == ["triosmtp.lazy_import", "triosmtp", "triosmtp.errors"]


@pytest.mark.parametrize("name", triosmtp.__all__)
def test_every_public_name_is_the_one_of_its_module(name: str) -> None:
    [module] = [module for module, names in triosmtp._MODULES.items() if name in names]
    assert getattr(triosmtp, name) is getattr(import_module(module), name)
    assert name in dir(triosmtp)


def test_star_brings_all_of_them() -> None:
    names = run("from triosmtp import *; print(*(name for name in dir() if not name.startswith('__')))")
    assert sorted(names) == sorted(triosmtp.__all__)


def test_a_module_is_an_attribute_as_if_it_had_been_imported() -> None:
    assert run("import triosmtp; print(triosmtp.smtp.Address.__name__, triosmtp.Address.__name__)") == ["Address"] * 2


@pytest.mark.parametrize("package", [triosmtp, triosmtp.tls], ids=lambda package: package.__name__)
def test_type_checkers_see_the_same_names(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {node.module: {each.name for each in node.names} for node in block.body if isinstance(node, ast.ImportFrom)}
    assert told == {module: set(names) for module, names in package._MODULES.items()}
    assert sorted(package.__all__) == sorted(name for names in told.values() for name in names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'triosmtp' has no attribute 'nothing'$"):
        _ = triosmtp.nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        run_import("nothing")


def run_import(name: str) -> None:
    exec(f"from triosmtp import {name}", {})
