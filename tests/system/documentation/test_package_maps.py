"""The docstring of a package is a map of its modules, and files that docstrings and comments name exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "triosmtp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = [path.parent for path in SOURCES if path.name == "__init__.py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_package_names_each_of_its_modules(package: Path) -> None:
    shown = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {each.name for each in package.glob("*.py")} - {"__init__.py"}
    packages = {f"{each.parent.name}/" for each in package.glob("*/__init__.py")}
    assert {each for each in modules | packages if not re.search(rf"(?<![\w/.]){re.escape(each)}", shown)} == set()


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_files_that_a_module_names_exist(source: Path) -> None:
    """Look in the module's package and its sub-packages, then from the top of the package and of the repository."""
    named = set(re.findall(r"(?<![\w/.{}-])(\w[\w/]*\.py)\b", source.read_text()))
    tops = (PACKAGE, ROOT)
    assert {
        name for name in named if not any(source.parent.rglob(name)) and not any((top / name).exists() for top in tops)
    } == set()
