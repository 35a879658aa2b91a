"""`python -m bench`: measure the chosen tests and servers, interleaved, and print medians."""

import argparse
import os
import sys
from pathlib import Path

from bench.load import Sample, measure
from bench.process import LOAD_CPU
from bench.report import format_table, write_json
from bench.rival import RIVALS, Rival, open_rival
from bench.scenario import SCENARIOS, Scenario

__all__ = ["main"]


def _measure_once(scenario: Scenario, rival: Rival, seconds: float) -> Sample:
    with open_rival(rival, scenario) as (server, credentials):
        return measure(scenario, server, credentials, seconds)


def _names(known: "dict[str, Scenario] | dict[str, Rival]", text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} not among {', '.join(known)}")
    return names


def main() -> None:
    """Parse arguments, measure, print; return status 1 if a server failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--tests", type=lambda s: _names(SCENARIOS, s), default=list(SCENARIOS), metavar="A,B,…")
    parser.add_argument("--rivals", type=lambda s: _names(RIVALS, s), default=list(RIVALS), metavar="NAME,…")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load a run (default 5)")
    parser.add_argument("--runs", type=int, default=3, help="of each pair of test and server (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CPU})
    pairs = [
        (test, rival)
        for test in options.tests
        for rival in options.rivals
        if SCENARIOS[test].security in RIVALS[rival].takes
    ]
    results: dict[tuple[str, str], list[Sample]] = {pair: [] for pair in pairs}
    for run in range(options.runs):
        for test, rival in pairs:  # interleaved: what disturbs the machine disturbs all
            sample = _measure_once(SCENARIOS[test], RIVALS[rival], options.seconds)
            results[test, rival].append(sample)
            figure = f"{sample.figure:.3f} {SCENARIOS[test].unit}"
            print(f"run {run + 1}: {test} {rival}: {figure} ({sample.messages} messages)", file=sys.stderr)
    print(format_table(results))
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
