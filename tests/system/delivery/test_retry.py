"""A retry over workers and restarts: those that have the message do not get it again."""

import os
import signal
from pathlib import Path

import pytest
from serve_process import LineClient, run_server

CONFIGURATION = """
    Workers = 2  Relay_Domains = ( "example.com" )
    Deliver_To = ( "maildir:{folder}/first" "maildir:{folder}/second" )
    ESMTP_Listener {{ Listen "127.0.0.1:0" {{ }} }}
"""


def delivered(folder: Path, name: str) -> int:
    return len(list((folder / name / "new").iterdir())) if (folder / name / "new").is_dir() else 0


def send(port: int) -> str:
    with LineClient(port) as client:
        client.read()
        return client.deliver()


@pytest.mark.parametrize("between", ["another worker", "killed workers", "a restart"])
def test_the_retry_goes_to_the_second_target_alone(between: str, tmp_path: Path) -> None:
    conf = tmp_path / "server.conf"
    conf.write_text(CONFIGURATION.format(folder=tmp_path))
    (tmp_path / "second").write_text("in the way")
    with run_server("-c", str(conf), log=tmp_path / "log") as server:
        port = server.port()
        assert send(port).startswith("451 4.3.0 ")
        (tmp_path / "second").unlink()
        assert (delivered(tmp_path, "first"), delivered(tmp_path, "second")) == (1, 0)
        if between == "another worker":
            with LineClient(port), LineClient(port):  # connections go to the worker with the fewest
                assert send(port).startswith("250 ")
                assert send(port).startswith("250 ")
        elif between == "killed workers":
            for pid in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            assert send(port).startswith("250 ")
        else:
            server.stop()
    if between == "a restart":
        with run_server("-c", str(conf), log=tmp_path / "log2") as server:
            assert send(server.port()).startswith("250 ")
    assert (delivered(tmp_path, "first"), delivered(tmp_path, "second") > 0) == (1, True)
