"""The port of an application of aiosmtpd."""

import importlib.util
import os
from pathlib import Path

import pytest
from pytest_run import pytest_of

ROOT = Path(__file__).parents[3]
PORT = Path(__file__).parent / "port"


def lines(name: str) -> int:
    """Count the lines of code: without blank lines, comments and the module's docstring."""
    text = [line.strip() for line in (PORT / name).read_text().splitlines()]
    return len([line for line in text[1:] if line and not line.startswith("#")])


@pytest.mark.parametrize("library", ["aiosmtpd", "triosmtp"])
def test_the_suite_passes_before_and_after(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{library} is not installed")
        pytest.skip(f"{library} is not installed")
    done = pytest_of(PORT, f"suite_{library}.py")
    assert "7 passed" in done.stdout, done.stdout


def test_the_page_has_the_lines_right() -> None:
    page = (ROOT / "docs" / "from-aiosmtpd.md").read_text()
    for part in ("handler", "suite"):
        before, after = lines(f"{part}_aiosmtpd.py"), lines(f"{part}_triosmtp.py")
        assert f"| {part} | {before} | {after} |" in page, (part, before, after)
        assert after < before
