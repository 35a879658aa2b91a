"""From each module its tests are found: by its path, or in the table of CONTRIBUTING."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODULES = {path for path in (ROOT / "triosmtp").rglob("*.py") if path.name != "__init__.py"}
ROW = re.compile(r"^\| (`triosmtp/.*?) \| (`tests/.*?) \|$", re.MULTILINE)
TABLE = [
    (re.findall(r"`([^`]+)`", modules), re.findall(r"`([^`]+)`", tests))
    for modules, tests in ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
]


def unit_tests_of(module: Path) -> Path:
    return (ROOT / "tests/unit" / module.relative_to(ROOT / "triosmtp")).with_name(f"test_{module.stem}.py")


def test_each_module_has_a_file_of_tests_or_a_row() -> None:
    elsewhere = {path for patterns, _ in TABLE for pattern in patterns for path in ROOT.glob(pattern)}
    without = {path for path in MODULES if not unit_tests_of(path).exists()}
    names = {path.relative_to(ROOT).as_posix() for path in without ^ (elsewhere & MODULES)}
    assert names == set(), "neither a file of tests nor a row, or both"


def test_each_row_leads_to_tests() -> None:
    assert len(TABLE) > 4
    for modules, tests in TABLE:
        assert all(any(ROOT.glob(module)) for module in modules), modules
        assert all(any((ROOT / path).rglob("test_*.py")) or (ROOT / path).is_file() for path in tests), tests
