"""A package of lazy names imports a module at the first use of one of its names."""

import sys
from pathlib import Path

import pytest


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
