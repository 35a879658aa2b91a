"""The command `triosmtp examples`: copy the examples that the package brings to a folder."""

import shutil
import sys
from pathlib import Path
from typing import Final

__all__ = ["examples_command"]

_EX_CANTCREAT: Final = 73
_PACKAGE: Final = Path(__file__).parents[1]


def examples_command(target: Path) -> int:
    """Copy every example to ``target``, which must not exist or be an empty folder; return the exit status."""
    source = _PACKAGE / "examples"
    if not source.is_dir():
        source = _PACKAGE.parent / "examples"  # an editable installation has them beside the package
    try:
        if target.exists() and any(target.iterdir()):
            print(f"triosmtp: {target}: the folder is not empty", file=sys.stderr)
            return _EX_CANTCREAT
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules"), dirs_exist_ok=True
        )
    except OSError as error:
        print(f"triosmtp: {error.filename or target}: {error.strerror or error}", file=sys.stderr)
        return _EX_CANTCREAT
    for path in sorted(each for each in target.rglob("*") if each.is_file()):
        print(path)
    return 0
