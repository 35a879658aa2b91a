"""A signal that reaches a worker during its imports neither ends it nor prints a traceback."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from importlib.machinery import ModuleSpec

class Finder:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "triosmtp.workers.worker" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        module.main = lambda: print("runs")

sys.meta_path.insert(0, Finder())
from triosmtp.workers.worker_main import main
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_worker_ignores_signals_while_it_imports(name: str) -> None:
    command = [sys.executable, "-c", PROGRAM, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs\n", "")


def test_the_entry_point_imports_little() -> None:
    program = "import sys, triosmtp.workers.worker_main; print(*(name for name in sys.modules if 'triosmtp' in name))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) == {
        "triosmtp", "triosmtp.lazy_import", "triosmtp.workers", "triosmtp.workers.worker_main",
    }  # fmt: skip
