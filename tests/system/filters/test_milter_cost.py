"""The cost of a message with each filter, beside none: a table for docs/filters.md, only on request."""

import os
import smtplib
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filter_site import filter_folder, serving
from milter_daemons import MILTERS, clamd
from policyd_daemons import policyd_spf, postgrey
from policyd_service import policyd_service
from rspamd_server import rspamd_server

pytestmark = pytest.mark.skipif(not os.environ.get("TRIOSMTP_JUDGE"), reason="it measures: set TRIOSMTP_JUDGE=1")

MESSAGES = 400
BODY = (
    b"From: a@example.org\r\nTo: you@example.com\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\nSubject: x\r\n\r\n"
    + (b"x" * 76 + b"\r\n") * 25
)


def cpu(process: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with filter_folder() as path, ExitStack() as stack:
        for make in (clamd, *MILTERS.values()):
            daemon = make(path)
            stack.callback(daemon.kill)
            daemon.start()
        yield path


def measured(folder: Path, options: str) -> tuple[float, float, float]:
    """Return the CPU time of the server, the median and the 90th percentile of the time of a message, in ms."""
    with serving(folder, options) as (program, port), smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.org")
        seconds = []
        for number in range(MESSAGES + 20):
            if number == 20:  # after that it is warm
                before = cpu(program.process.pid)
            began = time.perf_counter()
            client.docmd("MAIL FROM:<a@example.org>")
            while client.docmd("RCPT TO:<you@example.com>")[0] == 450:
                assert number == 0, "it is greylisted only at the beginning"
            assert client.docmd("DATA")[0] == 354
            client.send(BODY + b".\r\n")
            assert client.getreply()[0] == 250
            seconds.append(time.perf_counter() - began)
        used = cpu(program.process.pid) - before
    values = statistics.quantiles(seconds[20:], n=100)
    return used / MESSAGES * 1000, values[49] * 1000, values[89] * 1000


def test_the_cost_of_each_filter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with policyd_service() as service, postgrey(folder), policyd_spf(folder), rspamd_server() as rspamd:
        addresses = {
            "none": "",
            **{name: f"milter:unix:{name}" for name in MILTERS},
            "rspamd by HTTP": f"rspamd:{rspamd.url}",
            "postgrey": "policyd:unix:postgrey",
            "policyd-spf": "policyd:unix:spf",
            "policyd": service.address,
        }
        lines = []
        for name, address in addresses.items():
            policy = f'Policy = ( "{address}" )' if address else ""
            found = measured(folder, f'{policy} Policy_Timeout = 20 Deliver_To = "discard:"')
            lines.append(f"| {name} | {found[0]:.2f} | {found[1]:.2f} | {found[2]:.2f} |")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
