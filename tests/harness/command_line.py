"""Run a command of triosmtp in this process."""

from pathlib import Path

import pytest

from triosmtp.cli import main

TEXT = """\
Idle_Time = 100
Relay_Domains = ( example.org )
Deliver_To = "discard:"
Pathway_Group "g" { Max_Message_Size = 9  Pathway "in" { Require_EHLO = true } }
ESMTP_Listener {
  Pathway = "in"
  Listen ":25" {
    Idle_Time = 60
    Peer "10.0.0.0/8" { Idle_Time = 30 }
    Peer "10.0.0.1" { Max_Command_Errors = 5 }
  }
  Listen "/run/s" { Enable = false }
  Peer "192.0.2.0/24" { Max_Recipients_Per_Message = 7 }
}
"""


def enter_with_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a configuration into a folder, which is the current one for this test; return its name."""
    monkeypatch.chdir(folder)
    Path("e.conf").write_text(TEXT)
    return "e.conf"


class Told:
    """The output of one command, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Told:
    try:
        code = main(words)
    except SystemExit as end:
        code = int(str(end.code))
    out, err = capsys.readouterr()
    return Told(code, out, err)
