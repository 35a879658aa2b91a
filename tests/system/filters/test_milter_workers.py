"""Milters and worker processes: connections are those of the workers, breaker and figures those of the whole server."""

import re
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filter_site import filter_folder, message, serving
from milter_program import milter_program, strings
from policy_server import wait_until
from serve_process import COMMAND


@pytest.fixture
def folder() -> Iterator[Path]:
    with filter_folder() as path:
        yield path


def shown(folder: Path) -> str:
    console = [*COMMAND, "console", "--control", str(folder / "control"), "show", "policy"]
    return subprocess.run(console, check=True, capture_output=True, text=True, cwd=folder).stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_breaker_and_figures_are_those_of_the_whole_server(folder: Path, workers: int) -> None:
    def answers(code: str, data: bytes) -> tuple[bytes, ...]:
        return () if code == "M" and data.startswith(b"<hang@") else (b"c",)

    with milter_program(answers) as milter:
        options = f'Workers = {workers} Policy = ( "filter:m" ) Filter "m" {{ Connect_To = "{milter.address}" '
        options += "Policy_Timeout = 0.1 }"
        with serving(folder, options) as (program, port):
            for certificate in (None, "", "good", "bad"):
                assert message(port, folder, certificate).startswith("250")
            milter.wait_for(lambda: all(each.commands.endswith("Q") for each in milter.sessions))
            phases = "connect, data, data_spool, ehlo, mailfrom, rcptto"
            until = re.compile(rf"group filter:m: 0 deciders at {phases}; asked 27, answered 27, timed out 0")
            assert until.search(shown(folder)), shown(folder)
            for _ in range(5):
                assert message(port, folder, sender="hang@example.org").startswith("451 4.3.0")
            assert "breaker open" in shown(folder)
            with pytest.raises(smtplib.SMTPConnectError, match="421"):  # no worker asks
                message(port, folder)
            verify = [dict(each.macros())["H"]["{verify}"] for each in milter.sessions[:4]]
            assert verify == ["NONE", "NO", "OK", "FAIL"]
            assert milter.sessions[0].data_of("M") == [strings("<a@example.org>")]
            fallback = re.compile(r"policy-fallback .* group=filter:m ")
            wait_until(folder, lambda: len(fallback.findall(program.log)) == 6)
