"""The reference to a session: a value that its events share and that crosses a process boundary."""

import json
import pickle
import subprocess
import sys
from typing import Any

import attrs
import pytest

from triosmtp.session_info import SessionInfo

KNOWN: dict[str, Any] = {"id": "s-1", "peer": "192.0.2.7:53211", "local": "192.0.2.1:25", "listener": ":25"}
INFO = SessionInfo(**KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_sessions_that_differ_in_one_field_are_not_equal(name: str) -> None:
    other = attrs.evolve(INFO, **{name: "x"})
    assert other != INFO
    assert len({other, INFO, SessionInfo(**KNOWN)}) == 2


def test_another_process_reads_it() -> None:
    code = """
import json, pickle, sys
import attrs
print(json.dumps(attrs.asdict(pickle.load(sys.stdin.buffer))))
"""
    run = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(INFO), capture_output=True, check=True)
    assert json.loads(run.stdout) == KNOWN


def test_policies_import_it_without_the_events() -> None:
    code = "import sys, triosmtp.session_info; print('triosmtp.event' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
