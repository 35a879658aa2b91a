"""The notice about power failures: once, and by what the monitoring ports say."""

import logging
from pathlib import Path

import pytest
import trio
from nats_servers import NATSProcess, free_ports, run_nats

from triosmtp.jetstream import power_failure
from triosmtp.jetstream.power_failure import report_power_failures

RISK = "accepted mail can be lost"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "triosmtp.nats")
    return caplog


async def test_without_a_monitor_there_is_one_notice(log: pytest.LogCaptureFixture) -> None:
    await report_power_failures("nats://x", ())
    ((level, text),) = [(each.levelno, each.getMessage()) for each in log.records]
    assert (level, RISK in text) == (logging.INFO, True)


async def test_a_server_that_does_not_sync_always_is_a_warning(
    nats_server: NATSProcess, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with run_nats(tmp_path, "jetstream { store_dir: STORE, sync_interval: always }\n") as always:
        good, bad = (f"http://127.0.0.1:{each.monitor}" for each in (always, nats_server))
        await report_power_failures("nats://x", (good,))
        assert RISK not in log.text
        log.clear()
        await report_power_failures("nats://x", (good, bad))
    (record,) = log.records
    assert (record.levelno, RISK in record.getMessage()) == (logging.WARNING, True)


async def test_a_monitor_that_does_not_answer_is_asked_again(
    nats_server: NATSProcess, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_failure, "_INTERVAL", 0.01)
    (port,) = free_ports(1)
    with trio.move_on_after(0.2):
        await report_power_failures("nats://x", (f"http://127.0.0.1:{port}",))
    (record,) = log.records  # one line, not one for each attempt
    assert f"127.0.0.1:{port}" in record.getMessage()
