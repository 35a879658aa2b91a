"""A process that is killed while it delivers loses nothing that it acknowledged, and leaves nothing half-written."""

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import triosmtp

PROGRAM = Path(__file__).parents[2] / "harness" / "deliverer.py"


def test_sigkill_in_the_middle_of_deliveries(tmp_path: Path) -> None:
    rounds = 20 if os.environ.get("TRIOSMTP_JUDGE") else 3
    print(f"{rounds} of 20 rounds of about 200 deliveries")
    for number in range(rounds):
        folder = tmp_path / str(number)
        acknowledged = _deliver_until_killed(folder, 200 + Random(number).randrange(20))
        stored = set()
        for path in (folder / "new").iterdir():
            text = path.read_bytes()
            match = re.search(rb"Subject: (\d+)\n\nx{20000}\nend (\d+)\n\Z", text)
            assert match, f"{path} is not whole"
            assert match[1] == match[2]
            assert path.name.endswith(f",S={len(text)}")
            stored.add(int(match[1]))
        assert acknowledged <= stored
        assert len(acknowledged) >= 200


def _deliver_until_killed(folder: Path, wanted: int) -> set[int]:
    command = [sys.executable, str(PROGRAM), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(triosmtp.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        acknowledged = {int(process.stdout.readline()) for _ in range(wanted)}
        process.kill()
        rest = process.stdout.read()
        acknowledged |= {int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")}
    return acknowledged
