"""`python -m bench.count`: what one message, or one connection with a message, takes, in counts and not in time.

Bytecodes, calls of functions in Python, steps of Trio's tasks and system calls of `triosmtp serve` with its log, in a
fixed dialogue on one connection.  The machine, its load and the build of the interpreter change none of them; the
version of Python and of libraries does.  `--write` makes today's figures the budget that the tests hold the code to.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen

from bench.counted import FIGURES

__all__ = ["BUDGET", "TESTS", "Count", "count", "environment", "excess", "growth", "load_budget"]

TESTS: Final = ("A", "B", "Bp", "De", "Ee")
PRICES: Final = ("B", "B+python", "B+websocket", "B+policyd", "B+domain")
"""What a policy at MAIL adds, a policyd at RCPT, or targets by domain: no budget holds for it."""
BUDGET: Final = Path(__file__).parent / "budget.json"
TOLERANCE: Final = 0.03
_HOW: Final = "python -m bench.count --write makes this file, in an environment as told below"
_LIBRARIES: Final = ("attrs", "pyOpenSSL", "trio")
_SMALL: Final = 20
"""Bytecodes of a function that are not worth a line in the budget."""

Budget: TypeAlias = Mapping[str, "Count"]


@frozen(slots=True)
class Count:
    """What one unit of a test takes: the figures, and the bytecodes of each function."""

    figures: Mapping[str, int]
    functions: Mapping[str, int]


def count(test: str) -> Count:
    """Count one test in a process of its own.

    :raises RuntimeError: if it fails, with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="triosmtp-count-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "bench.counted", test, name]
        # A measurement of coverage would count itself, and take our trace function away.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        with (folder / "log").open("wb") as log:
            done = subprocess.run(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=inherited, timeout=300, check=False
            )
        if done.returncode:
            raise RuntimeError(f"{test}: status {done.returncode}: {(folder / 'log').read_text(errors='replace')}")
        return Count(**json.loads((folder / "result.json").read_text()))


def environment() -> dict[str, str]:
    """Return what the counts depend on, apart from the measured code: a budget is valid only if this is equal."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": f"{platform.python_implementation()} {python}", **{name: version(name) for name in _LIBRARIES}}


def load_budget() -> tuple[dict[str, str], Budget]:
    """Return the environment of the budget, and what each test may take."""
    document = json.loads(BUDGET.read_text("utf-8"))
    return document["environment"], {test: Count(**each) for test, each in document["tests"].items()}


def _write_budget(counts: Budget) -> None:
    tests = {
        test: {
            "figures": dict(each.figures),
            "functions": {name: value for name, value in sorted(each.functions.items()) if value >= _SMALL},
        }
        for test, each in counts.items()
    }
    document = {"how": _HOW, "environment": environment(), "tests": tests}
    BUDGET.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def excess(now: Count, budget: Count) -> list[str]:
    """Return a line for each figure that is more than 3 % above the budget."""
    return [
        f"{figure}: {now.figures[figure]}, {now.figures[figure] / allowed - 1:+.1%} of the budget's {allowed}"
        for figure, allowed in budget.figures.items()
        if now.figures[figure] > allowed * (1 + TOLERANCE)
    ]


def growth(now: Count, budget: Count) -> list[str]:
    """Return a line for each function that takes more bytecodes than in the budget, most first."""
    grown = {name: value - budget.functions.get(name, 0) for name, value in now.functions.items()}
    shown = sorted((each for each in grown.items() if each[1] >= _SMALL), key=lambda each: -each[1])
    return [f"{difference:+6} = {now.functions[name]:6} {name}" for name, difference in shown]


def _table(counts: Budget, budget: Budget) -> Iterator[str]:
    yield "unit" + "".join(f"{figure.replace('_', ' '):>24}" for figure in FIGURES)
    for test, each in counts.items():
        row = f"{test:<4}"
        for figure in FIGURES:
            value = f"{each.figures[figure]:,}"
            allowed = budget[test].figures[figure] if test in budget else 0
            against = f" ({each.figures[figure] / allowed - 1:+.1%})" if allowed else ""
            row += f"{value + against:>24}"
        yield row


def _price_lines(prices: Mapping[str, Count]) -> Iterator[str]:
    for test, each in prices.items():
        if test != "B":
            more = ", ".join(f"{value - prices['B'].figures[name]:+,} {name}" for name, value in each.figures.items())
            yield f"{test.partition('+')[2]}: {more}"


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TESTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not among {', '.join(TESTS)}")
    return names


def _print(lines: Iterable[str]) -> None:
    print(*lines, sep="\n", flush=True)


def main() -> None:
    """Count and print; beside each figure how far it is from the budget, if that holds here."""
    parser = argparse.ArgumentParser(prog="python -m bench.count", description=__doc__)
    parser.add_argument("--tests", type=_names, default=list(TESTS), metavar="A,B,…")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="the N functions that take most, too")
    parser.add_argument(
        "--policies",
        action="store_true",
        help="what a policy in Python, a websocket decider, a policyd and targets by domain add",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--write", action="store_true", help="make the figures the budget")
    options = parser.parse_args()
    if options.write and set(options.tests) != set(TESTS):
        parser.error("a budget is of all tests")
    counts = {test: count(test) for test in options.tests}
    if options.write:
        _write_budget(counts)
    known, budget = load_budget()
    if known != environment():
        print(f"The budget is of {known}, not of {environment()}: nothing is compared.")
        budget = {}
    _print(_table(counts, budget))
    prices = {test: count(test) for test in PRICES} if options.policies else {}
    _print(_price_lines(prices))
    if options.json:
        figures = {test: each.figures for test, each in {**counts, **prices}.items()}
        options.json.write_text(
            json.dumps({"environment": environment(), "figures": figures}, indent=1) + "\n", "utf-8"
        )
    for test, each in counts.items():
        if options.functions:
            shown = list(each.functions.items())[: options.functions]
            _print(["", f"{test}:", *(f"{value:>8} {name}" for name, value in shown)])
        if grown := growth(each, budget[test])[:20] if test in budget else []:
            _print(["", f"{test}: functions that grew:", *grown])


if __name__ == "__main__":
    main()
