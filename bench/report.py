"""The result: a table for people, the same as JSON for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from attrs import asdict

from bench.load import Sample
from bench.rival import RIVALS
from bench.scenario import SCENARIOS

__all__ = ["Results", "format_table", "write_json"]

Results = Mapping[tuple[str, str], Sequence[Sample]]
"""Scenario and rival to the samples of all runs."""

_BASELINE = "aiosmtpd"


def format_table(results: Results) -> str:
    """Return medians beside the ratio to aiosmtpd, with the ratios that triosmtp must reach and aims at."""
    lines = [
        f"{'test':<5}{'server':<12}{'CPU/unit':>14}{'spread':>9}{'ratio':>8}{'must':>8}{'aim':>8}{'wall/s':>10}",
        "-" * 74,
    ]
    for (name, rival), samples in results.items():
        scenario = SCENARIOS[name]
        figures = [sample.figure for sample in samples]
        middle = median(figures)
        baseline = results.get((name, _BASELINE))
        # The two samples of a run follow each other, so what slows the machine for a while is in both.
        pairs = zip(samples, baseline or (), strict=False)
        ratio = f"{median(own.figure / other.figure for own, other in pairs):.2f}" if baseline else "-"
        must, aim = "", ""
        if rival == "triosmtp" and scenario.must and scenario.aim:
            must, aim = f"{scenario.must:.2f}", f"{scenario.aim:.2f}"
        spread = (max(figures) - min(figures)) / middle
        rate = median(sample.messages / sample.seconds for sample in samples)
        cost = f"{middle:.3f} {scenario.unit}"
        lines.append(f"{name:<5}{rival:<12}{cost:>14}{spread:>9.0%}{ratio:>8}{must:>8}{aim:>8}{rate:>10.1f}")
    lines += [
        "",
        "CPU/unit: server's user and system time, median; spread: (max - min) / median",
        "ratio: to aiosmtpd in the same run, median",
    ]
    lines += [f"{n}: {SCENARIOS[n].title}" for n in dict.fromkeys(name for name, _ in results)]
    lines += [f"{r}: {RIVALS[r].title}" for r in dict.fromkeys(rival for _, rival in results)]
    return "\n".join(lines)


def write_json(path: Path, results: Results) -> None:
    """Write every sample, with what is needed to judge it later."""
    document = {
        "machine": {"processor": _processor(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "results": [
            {
                "test": name,
                "server": rival,
                "unit": SCENARIOS[name].unit,
                "median": median(sample.figure for sample in samples),
                "must": SCENARIOS[name].must,
                "aim": SCENARIOS[name].aim,
                "samples": [asdict(sample) for sample in samples],
            }
            for (name, rival), samples in results.items()
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
