"""A package of lazy names imports a module at the first use of one of its names."""

import sys
from pathlib import Path

import pytest

from triosmtp.lazy_import import defer_import


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "lazy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from triosmtp.lazy_import import lazy_names\n"
        "__getattr__ = lazy_names(__name__, {f'{__name__}.one': ('a',), f'{__name__}.two.three': ('b', 'c')})\n"
    )
    (folder / "one.py").write_text("a = object()\n")
    (folder / "two").mkdir()
    (folder / "two" / "__init__.py").touch()
    (folder / "two" / "three.py").write_text("b, c = 1, 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return folder.name


def test_a_module_is_imported_at_the_first_use_of_its_name(package: str) -> None:
    module = __import__(package)
    assert f"{package}.one" not in sys.modules
    first = module.a
    assert first is sys.modules[f"{package}.one"].a
    assert f"{package}.two" not in sys.modules
    assert "a" in vars(module)  # the second use costs nothing


def test_a_module_is_an_attribute_of_the_package(package: str) -> None:
    module = __import__(package)
    assert module.two.__name__ == f"{package}.two"
    assert (module.b, module.c) == (1, 2)


def test_any_other_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"^module '{package}' has no attribute 'd'$"):
        _ = __import__(package).d


def test_a_deferred_module_executes_at_the_first_use_of_an_attribute(package: str, tmp_path: Path) -> None:
    (tmp_path / "deferred.py").write_text(f"import {package}.one\nvalue = {package}.one.a\n")
    defer_import("deferred")
    module = __import__("deferred")
    assert f"{package}.one" not in sys.modules
    assert module.__name__ == "deferred"
    assert module.value is sys.modules[f"{package}.one"].a
    assert type(module) is type(sys)  # the second use costs nothing
    with pytest.raises(AttributeError, match=r"^module 'deferred' has no attribute 'other'$"):
        _ = module.other


def test_a_deferred_module_can_be_imported_from(package: str) -> None:
    defer_import(f"{package}.two.three")
    namespace: dict[str, int] = {}
    exec(f"from {package}.two import three\nfrom {package}.two.three import c", namespace)
    assert (namespace["c"], vars(namespace["three"])["b"]) == (2, 1)


def test_a_module_that_is_imported_already_is_not_deferred(package: str) -> None:
    module = __import__(f"{package}.one", fromlist=["a"])
    defer_import(f"{package}.one")
    assert sys.modules[f"{package}.one"] is module


def test_a_module_that_does_not_exist_cannot_be_deferred() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_module'$"):
        defer_import("no_such_module")
