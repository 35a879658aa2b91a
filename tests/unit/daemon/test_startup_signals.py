"""Signals and stderr before the event loop runs; each program is a process of its own."""

import signal
import subprocess
import sys

import pytest

from triosmtp.daemon.startup_signals import StartupSignals


def test_sighup_is_remembered_and_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)]
    with StartupSignals() as signals:
        values = [signals.reload]
        signal.raise_signal(signal.SIGHUP)
        values.append(signals.reload)
    assert values == [False, True]
    assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_end_ends_the_process_with_0(name: str) -> None:
    program = (
        "import signal\nfrom triosmtp.daemon.startup_signals import StartupSignals\n"
        f"with StartupSignals(): signal.raise_signal(signal.{name})\nprint('still there')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_stderr_is_dev_null_for_children_too() -> None:
    program = (
        "import os, subprocess, sys\nfrom triosmtp.daemon.startup_signals import ensure_stderr\n"
        "assert sys.stderr is None\nensure_stderr()\nprint(os.readlink('/proc/self/fd/2'), flush=True)\n"
        "print('lost', file=sys.stderr)\n"
        "subprocess.run(['readlink', '/proc/self/fd/2'], check=True)"
    )
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "/dev/null\n/dev/null\n")
